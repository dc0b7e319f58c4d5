"""Writers of answers killed at random moments: no stored answer is lost, and none counts twice.

A writer is a fork of this process, so that a death costs milliseconds. It notes each answer that the queue has taken; a
note is a line that is written at once. The importer repeats its whole file in every life, as a user would.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from review_queues import CLASSES, make_queue
from running import killed_after

from curation.review.imports import ForeignAnswer, import_answers
from curation.review.queue import Queue
from curation.review.session import Session
from curation.review.status import status_of
from curation.review.verification import verify_queue

pytestmark = pytest.mark.slow

ITEMS = 60
REVIEWERS = ("ann", "bob", "cid")


def label_of(item: int, reviewer: str) -> str:
    return CLASSES[(item * 7 + REVIEWERS.index(reviewer)) % 3]


def importer(queue: Queue) -> None:
    """Import an answer of each reviewer to each item."""
    answers = [
        ForeignAnswer(item, queue.sha256, reviewer, label_of(item, reviewer), "", "")
        for item in range(ITEMS)
        for reviewer in REVIEWERS
    ]
    import_answers(queue, answers)


def server(queue: Queue, notes: int) -> None:
    """Answer as the page's session does, each reviewer in turn, and note what was taken."""
    session = Session(queue)
    while any([_one(session, reviewer, notes) for reviewer in REVIEWERS]):  # noqa: C419  (all answer, each time)
        pass


def _one(session: Session, reviewer: str, notes: int) -> bool:
    if (offer := session.next(reviewer)) is None:
        return False
    session.answer(reviewer, offer.item, offer.n, "label", label_of(offer.item, reviewer))
    os.write(notes, f"{offer.item} {reviewer}\n".encode())
    return True


def check(queue: Queue) -> None:
    assert not verify_queue(queue, pictures=False).findings
    for item in range(ITEMS):
        found = {(one.reviewer, one.n): one.record.meaning for one in queue.answers_of(item)}  # type: ignore[union-attr]
        assert all(found[key] == ("label", label_of(item, key[0])) and key[1] == 1 for key in found)


def kill(root: Path, kills: int) -> None:
    queue = make_queue(root, ITEMS, budget=10_000)
    rng = random.Random(7)
    ended = 0
    longest = 0.2  # seconds of a life; doubled while servers die before their first answer, as on a loaded machine
    for life in range(kills):
        if life % 2:
            ended += killed_after(rng.uniform(0.001, longest), lambda: importer(queue))
            continue
        notes = os.open(root / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        ended += killed_after(rng.uniform(0.001, longest), lambda notes=notes: server(queue, notes))  # type: ignore[misc]
        longest *= 1 if os.fstat(notes).st_size else 2
        os.close(notes)
    taken = [tuple(line.split()) for line in (root / "notes").read_text().splitlines()]
    stored = {(str(item), one.reviewer) for item in range(ITEMS) for one in queue.answers_of(item)}
    assert taken and set(taken) <= stored, "an answer that was taken is lost"
    assert len(set(taken)) == len(taken), "an answer was taken twice"
    check(queue)
    importer(queue)
    check(queue)
    assert status_of(queue).spent == ITEMS * len(REVIEWERS)
    assert ended < kills, "no process was killed at work"


def test_killed_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    kill(tmp_path, 12)


@pytest.mark.soak
def test_500_kills(tmp_path: Path) -> None:
    for block in range(10):  # a queue is full after about 50 lives
        kill(tmp_path / str(block), 50)
