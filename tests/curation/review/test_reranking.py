"""Ranking again: by the recipe's formula, from the answers alone, and better than before."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_colours import (
    CLASSES,
    CPU,
    TruthTellers,
    colour_queue,
    coloured,
    ranker_for,
    train_folds,
    truth_of,
    with_reranking,
)
from review_queues import answer

from curation.core.distributions import active_score, cross_entropy, entropy
from curation.core.errors import UserError, WeightsError
from curation.core.holdout import content_of
from curation.models.fold_classifiers import shared_fold_classifiers
from curation.models.weights import Weights
from curation.review.queue import Queue, open_queue
from curation.review.reranking import change_lines, rank_again, ranker_of
from curation.review.rounds import annotate
from curation.review.status import status_of
from curation.review.verification import verify_queue
from curation.shards.images import DecodeLimits, decode

WRONG = frozenset({3, 8, 12, 17, 21, 26, 30, 35, 44, 47, 51, 56})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 60 pictures, 12 of them with wrong labels, and classifiers that have hardly learned."""
    root = tmp_path_factory.mktemp("root")
    colour_queue(root, 60, WRONG)
    train_folds(root / "corpus", root / "folds", steps=3)
    return root


def card(root: Path, folder: str = "folds") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / folder / "card.json").read_text())
    return found


@pytest.fixture
def queue(root: Path, tmp_path: Path) -> Queue:
    return with_reranking(open_queue(str(root / "queue")), tmp_path / "queue", card(root), every=10)


def truths(queue: Queue, items: Any) -> None:
    for item in items:
        answer(queue, item, "ann", truth_of(item))


@pytest.mark.slow
def test_the_priority_is_that_of_the_recipe(queue: Queue, root: Path) -> None:
    found = card(root)
    order = rank_again(queue, ranker_for(found))
    folds = shared_fold_classifiers("proxy-mu", Weights(found["weights"], found["sha256"]), CPU, None)
    data = [coloured(truth_of(item), item) for item in range(60)]
    pixels = np.stack([decode(one, DecodeLimits(), 64, "shortest") for one in data])
    (p,) = folds.runs(pixels, [content_of(one) for one in data])
    q = np.eye(2)[[CLASSES.index(label or "") for label in queue.labels]]
    priority = active_score(cross_entropy(q, p), entropy(p)).astype(np.float32)
    uids = queue.items.column("uid").to_pylist()
    assert order.items.tolist() == sorted(range(60), key=lambda item: (-priority[item], uids[item]))
    assert order.document.trained == 0 and order.document.change.left == 60


def test_answered_items_come_first_then_those_that_one_answer_settles(queue: Queue, root: Path) -> None:
    truths(queue, [40, 2, 9])
    answer(queue, 50, "ann", "red")
    answer(queue, 50, "bob", "green")
    answer(queue, 51, "ann", "?")
    order = rank_again(queue, ranker_for(card(root)))
    assert order.items.tolist()[:4] == [2, 9, 40, 50] and sorted(order.items.tolist()) == list(range(60))
    document = order.document
    assert (document.answers, document.settled, document.trained) == (6, 3, 3) and 51 in order.left
    assert document.change.left == document.change.next == 57 and document.change.entered == 0
    assert not verify_queue(queue).findings


@pytest.mark.slow
def test_answers_make_the_ranking_better(queue: Queue, tmp_path: Path) -> None:
    """Classifiers that take red for green rank right labels first; 40 answers turn them round."""
    colour_queue(tmp_path / "inverted", 60, range(60))
    ranker = ranker_for(train_folds(tmp_path / "inverted/corpus", tmp_path / "folds", steps=1), "error")

    def area(items: list[int]) -> float:
        """The share of pairs (wrong label, right label) among the last 20 items with the wrong one first."""
        wrong = [item in WRONG for item in items if item >= 40]
        return sum(wrong[n:].count(False) for n, bad in enumerate(wrong) if bad) / (
            wrong.count(True) * wrong.count(False)
        )

    assert area(rank_again(queue, ranker).items.tolist()) < 0.5
    truths(queue, range(40))
    after = rank_again(queue, ranker)
    assert area(after.items.tolist()) > 0.95
    assert after.document.trained == 40 and after.document.number == 2 and after.document.change.correlation < 0.5
    text = "\n".join(change_lines(after))
    assert "of the next 20 items are others than before" in text and "40 pictures trained on" in text


@pytest.mark.slow
def test_an_order_depends_on_the_answers_alone(queue: Queue, root: Path, tmp_path: Path) -> None:
    other = with_reranking(queue, tmp_path / "other", card(root), every=10)
    assert other.sha256 == queue.sha256
    truths(queue, range(20))
    rank_again(queue, ranker_for(card(root)))
    truths(queue, range(20, 30))
    truths(other, range(30))
    one, two = (rank_again(each, ranker_for(card(root))) for each in (queue, other))
    assert one.document.made_of == two.document.made_of and one.document.table == two.document.table
    again = rank_again(queue, ranker_for(card(root)))
    assert again.document == one.document and not again.created, "without new answers nothing changes"


@pytest.mark.slow
def test_items_without_a_priority_come_last(tmp_path: Path) -> None:
    changes = {0: {"label": None}, 1: {"label": "blue"}, 2: {"image": b"GIF89a"}}
    queue = colour_queue(tmp_path, 40, changes=changes)
    found = train_folds(tmp_path / "corpus", tmp_path / "folds", steps=1)
    order = rank_again(queue, ranker_for(found))
    assert order.items.tolist()[-3:] == [0, 1, 2]
    truths(queue, [0, 2, 5])
    order = rank_again(queue, ranker_for(found))
    assert order.items.tolist()[:3] == [0, 2, 5] and order.document.trained == 2, "the picture of item 2 is damaged"


@pytest.mark.slow
@pytest.mark.parametrize("priority", ["error", "margin", "disagreement"])
def test_other_priorities(priority: str, queue: Queue, root: Path, tmp_path: Path) -> None:
    if priority == "disagreement":
        with pytest.raises(UserError, match="1 run"):
            rank_again(queue, ranker_for(card(root), priority))
        found = train_folds(root / "corpus", tmp_path / "runs", steps=1, runs=2)
    else:
        found = card(root)
    assert sorted(rank_again(queue, ranker_for(found, priority)).items.tolist()) == list(range(60))


def test_what_ranks_a_queue(queue: Queue, root: Path, tmp_path: Path) -> None:
    found = card(root)
    assert ranker_of(queue, CPU) == ranker_for(found)
    plain = open_queue(str(root / "queue"))
    with pytest.raises(UserError, match="names no classifiers"):
        ranker_of(plain, CPU)
    file = Weights(found["weights"], found["sha256"])
    assert ranker_of(plain, CPU, weights=file, priority="error") == ranker_for(found, "error")
    one = next((root / "folds").glob("folds/*/0-0.safetensors"))
    with pytest.raises(WeightsError, match="no classifiers of folds"):
        ranker_of(plain, CPU, weights=Weights(str(one), sha256(one.read_bytes()).hexdigest()))


@pytest.mark.slow
def test_rounds_rank_again_and_a_killed_one_goes_on_as_if_it_had_not_died(
    queue: Queue, root: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    ranker = ranker_for(card(root))
    orders: list[int] = []
    annotate(queue, TruthTellers(), every=20, ranker=lambda: rank_again(queue, ranker),
             report=lambda order: orders.append(order.document.number if order else 0))  # fmt: skip
    assert orders == [1, 2] and status_of(queue).answered == 60
    other = with_reranking(queue, tmp_path / "other", card(root), every=10)
    for life in range(60):
        left = [(7, 40, 75)[life % 3]]  # a ranking ticks 60 times: some die in one

        def tick(n: int, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        try:
            annotate(
                other, TruthTellers(), every=20, ranker=lambda tick=tick: rank_again(other, ranker, tick), tick=tick
            )
        except Killed:
            continue
        break
    else:
        pytest.fail("it never ended")
    assert status_of(other).to_json() == status_of(queue).to_json()
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.json"))
        for name in ("queue", "other")
    ]
    assert files[0] == files[1]
    for number in (1, 2):
        texts = [(tmp_path / name / f"orders/{number:08d}.json").read_bytes() for name in ("queue", "other")]
        assert texts[0] == texts[1]
