"""Annotators that rank again, killed at random moments: the same orders and the same answers as without a death."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from labelled_colours import TruthTellers, colour_queue, ranker_for, train_folds, with_reranking
from running import killed_after

from curation.review.orders import newest_order
from curation.review.queue import Queue
from curation.review.reranking import Ranker, rank_again
from curation.review.rounds import annotate
from curation.review.status import status_of
from curation.review.verification import verify_queue

ITEMS, EVERY = 48, 12


def answered(queue: Queue, ranker: Ranker) -> None:
    annotate(queue, TruthTellers(), every=EVERY, ranker=lambda: rank_again(queue, ranker))


def kill(root: Path, kills: int) -> None:
    plain = colour_queue(root, ITEMS, {3, 8, 12, 17, 30})
    card = train_folds(root / "corpus", root / "folds", steps=2)
    ranker, rng = ranker_for(card), random.Random(7)
    whole, queue = (with_reranking(plain, root / name, card, EVERY) for name in ("whole", "killed"))
    ended = 0
    for _ in range(kills):
        ended += killed_after(rng.uniform(0.02, 1.0), lambda: answered(queue, ranker))
    assert ended < kills, "no process was killed at work"
    answered(queue, ranker)
    answered(whole, ranker)
    assert not verify_queue(queue, pictures=False).findings and not verify_queue(whole, pictures=False).findings
    assert status_of(queue).to_json() == status_of(whole).to_json()
    for number in range(1, ITEMS // EVERY):
        texts = [(root / name / f"orders/{number:08d}.json").read_bytes() for name in ("whole", "killed")]
        assert texts[0] == texts[1], "the same order after the same answers"
    last = newest_order(queue)
    assert last is not None and last.document.number == ITEMS // EVERY - 1


@pytest.mark.slow
def test_killed_annotators_go_on_in_the_same_order(tmp_path: Path) -> None:
    kill(tmp_path, 6)


@pytest.mark.soak
def test_100_kills(tmp_path: Path) -> None:
    for block in range(5):
        kill(tmp_path / str(block), 20)
