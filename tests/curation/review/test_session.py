"""Sessions: what each reviewer sees next; two servers and two reviewers on one queue."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from review_queues import answer, make_queue

from curation.core.errors import ReasonError, UserError
from curation.review.orders import ORDER_SCHEMA, create_order
from curation.review.queue import Queue, open_queue
from curation.review.session import ConflictError, Session
from curation.review.status import status_of
from curation.review.verification import verify_queue


def items(session: Session, reviewer: str, most: int = 99) -> list[int]:
    """The items that a reviewer sees who fetches ahead and answers nothing."""
    seen: list[int] = []
    while len(seen) < most and (offer := session.next(reviewer, seen)) is not None:
        seen.append(offer.item)
    return seen


def test_items_come_in_rank_order_without_those_on_other_screens(tmp_path: Path) -> None:
    session = Session(make_queue(tmp_path, 6))
    assert items(session, "ann", 2) == [0, 1]
    assert items(session, "bob", 2) == [2, 3]
    assert items(session, "ann") == [0, 1, 4, 5, 2, 3], "those of bob come last"


def test_an_answered_item_is_not_shown_again(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3)
    session = Session(queue)
    assert session.answer("ann", 0, 1, "label", "cat")
    assert session.answer("ann", 1, 1, "label", "owl")
    assert session.answer("ann", 2, 1, "cannot_tell", None)
    assert items(session, "ann") == []
    assert items(session, "bob") == [1, 2], "item 1 is tied; another reviewer may know item 2"
    assert session.progress("ann") == {
        "open": 1, "answered": 1, "refused": 1, "items": 3, "spent": 3, "budget": 100, "mine": 3, "given": 3,
    }  # fmt: skip
    again = Session(open_queue(str(tmp_path / "queue")))
    assert items(again, "bob") == [1, 2] and items(again, "ann") == []


def test_a_repeated_answer_changes_nothing_and_another_one_is_refused(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3)
    session = Session(queue)
    assert session.answer("ann", 0, 1, "label", "dog")
    assert not session.answer("ann", 0, 1, "label", "dog"), "sent again after a lost response"
    for n, kind, label in ((1, "label", "cat"), (2, "label", "cat"), (2, "cannot_tell", None), (4, "undo", None)):
        with pytest.raises(ConflictError):
            session.answer("ann", 0, n, kind, label)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="no answer to take back"):
        session.answer("ann", 1, 1, "undo", None)
    assert not verify_queue(queue, pictures=False).findings and status_of(queue).spent == 1


def test_an_undo_brings_the_item_back(tmp_path: Path) -> None:
    session = Session(make_queue(tmp_path, 2))
    session.answer("ann", 0, 1, "label", "cat")
    session.answer("ann", 0, 2, "undo", None)
    offer = session.next("ann")
    assert offer is not None and (offer.item, offer.n) == (0, 3)
    assert session.offer("ann", 0).n == 3 and session.progress("ann")["spent"] == 0
    assert session.answer("ann", 0, 3, "label", "cat")


def test_two_servers_on_one_queue(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3)
    first, second = Session(queue), Session(queue)
    assert first.answer("ann", 0, 1, "label", "cat")
    assert second.next("bob").item == 1, "the records of item 0 are read again before it is shown"  # type: ignore[union-attr]
    with pytest.raises(ConflictError):
        second.answer("ann", 0, 1, "label", "dog")
    assert second.progress("ann")["answered"] == 1


def test_the_budget_ends_the_questions(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 6, budget=2)
    session = Session(queue)
    for item in (0, 1):
        session.answer("ann", item, 1, "label", "cat")
    assert session.next("ann") is None
    with pytest.raises(ConflictError, match="budget"):
        session.answer("ann", 2, 1, "label", "cat")
    session.answer("ann", 1, 2, "undo", None)
    assert session.next("ann") is not None


def test_answers_that_no_queue_takes(tmp_path: Path) -> None:
    session = Session(make_queue(tmp_path, 3))
    wrong = [
        ("ann", 3, 1, "label", "cat"),
        ("ann", 0, 1, "label", "horse"),
        ("../x", 0, 1, "label", "cat"),
        ("ann", 0, 0, "label", "cat"),
        ("ann", 0, 1, "label", None),
        ("ann", 0, 1, "vote", "cat"),
    ]
    for arguments in wrong:
        with pytest.raises(UserError):
            session.answer(*arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "queue/answers").exists()


def test_the_next_item_reads_the_records_of_one_item_alone(tmp_path: Path) -> None:
    """However many answers a queue has: what makes the page fast at 100,000 items."""
    queue = make_queue(tmp_path, 40)
    for item in range(30):
        answer(queue, item, "ann", "owl")
    session = Session(queue)
    before = queue.store.stats.gets
    offer = session.next("ann")
    assert offer is not None and offer.item == 30
    assert session.next("bob").item == 0  # type: ignore[union-attr]
    assert queue.store.stats.gets - before == 1, "the one answer to item 0"


def test_hidden_characters_of_a_caption_are_visible(tmp_path: Path) -> None:
    session = Session(make_queue(tmp_path, 3, changes={0: {"caption": "a\u202eb\x1b[2J\n"}}))
    assert session.offer("ann", 0).row["caption"] == "a\\u202eb\\x1b[2J\\x0a"


def test_pictures(tmp_path: Path) -> None:
    session = Session(make_queue(tmp_path, 3, changes={1: {"image": b"GIF89a"}}))
    assert session.picture(0).data.startswith(b"\x89PNG") and session.picture(0).media_type == "image/png"
    with pytest.raises(ReasonError):
        session.picture(1)
    with pytest.raises(UserError):
        session.picture(3)


def ranked(queue: Queue, items: list[int], answers: int = 0) -> None:
    """Store an order of the items."""
    about = {
        "made_of": "a" * 64, "answers": answers, "settled": 0, "trained": 0, "priority": "active",
        "weights_sha256": "b" * 64, "change": {"left": 0, "correlation": 0.0, "next": 0, "entered": 0},
    }  # fmt: skip
    create_order(queue, about, pa.table([pa.array(items, pa.int32()), pa.nulls(6, pa.float32())], schema=ORDER_SCHEMA))


def test_a_server_picks_up_a_newer_order_and_takes_answers_to_items_shown_before(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 6)
    first, second = Session(queue), Session(queue)
    assert items(first, "ann", 2) == [0, 1]
    assert first.answer("ann", 0, 1, "label", "cat")
    ranked(queue, [0, 5, 3, 1, 2, 4])
    assert items(first, "bob", 1) == [2], "it looks again after some seconds, and not before"
    for session in (first, second):
        session.look_for_order()
    assert first.answer("ann", 1, 1, "label", "dog"), "the item on the screen"
    assert items(first, "ann") == [5, 3, 4, 2], "the item on bob's screen last"
    assert items(second, "cid", 4) == [5, 3, 2, 4], "another server, the same order without the answered items"
    assert items(Session(queue), "dan", 2) == [5, 3]
    counts = first.progress("ann")
    assert counts["open"] + counts["answered"] + counts["refused"] == counts["items"] == 6


def test_a_round_is_due(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 6, budget=5)
    session = Session(queue)
    assert not session.is_due(2)
    for item in (0, 1):
        session.answer("ann", item, 1, "cannot_tell", None)
    assert session.is_due(2) and session.spent == 2 and not session.is_due(3)
    ranked(queue, [5, 4, 3, 2, 1, 0], answers=2)
    session.look_for_order()
    assert not session.is_due(2)
    for item in (2, 3, 4):
        session.answer("ann", item, 1, "cannot_tell", None)
    assert not session.is_due(2), "the budget is spent"
