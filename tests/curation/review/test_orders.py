"""Orders of a queue: numbered, created once, every item once; damaged ones are passed over and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from review_queues import make_queue

from curation.annotators.simulated import Simulated
from curation.core.errors import LedgerError
from curation.review.orders import (
    ORDER_SCHEMA,
    Order,
    check_orders,
    create_order,
    is_due,
    newest_order,
    order_key,
    places_asked,
)
from curation.review.queue import Queue
from curation.review.rounds import annotate
from curation.review.status import states
from curation.review.verification import verify_queue

CHANGE = {"left": 0, "correlation": 0.0, "next": 0, "entered": 0}


def about(made_of: str = "a", answers: int = 0, settled: int = 0) -> dict[str, Any]:
    return {
        "made_of": made_of * 64, "answers": answers, "settled": settled, "trained": 0, "priority": "active",
        "weights_sha256": "b" * 64, "change": CHANGE,
    }  # fmt: skip


def put(queue: Queue, items: list[int], **fields: Any) -> Order:
    columns = [pa.array(items, pa.int32()), pa.nulls(len(items), pa.float32())]
    return create_order(queue, about(**fields), pa.table(columns, schema=ORDER_SCHEMA))


def test_the_newest_order_counts(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 4)
    assert newest_order(queue) is None
    first = put(queue, [3, 2, 1, 0])
    assert first.created and newest_order(queue).items.tolist() == [3, 2, 1, 0]  # type: ignore[union-attr]
    second = put(queue, [0, 3, 1, 2], made_of="c", settled=1)
    assert second.document.number == 2 and second.left == [3, 1, 2]
    assert newest_order(queue, first).items.tolist() == [0, 3, 1, 2]  # type: ignore[union-attr]
    before = queue.store.stats.gets
    assert newest_order(queue, second) is second and queue.store.stats.gets - before <= 1
    assert not verify_queue(queue, pictures=False).findings


def test_the_first_process_to_create_a_number_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make_queue(tmp_path, 3)
    create, raced = queue.store.create, []

    def late(key: str, data: bytes) -> bool:
        if not raced:
            raced.append(key)
            put(queue, [2, 1, 0], made_of="c")
        return create(key, data)

    monkeypatch.setattr(type(queue.store), "create", lambda store, key, data: late(key, data))
    found = put(queue, [1, 2, 0])
    assert not found.created and found.items.tolist() == [2, 1, 0], "the order of the other process"
    assert found.document.number == 1 and newest_order(queue).document == found.document  # type: ignore[union-attr]


@pytest.mark.parametrize("items", [[0, 1, 1, 3], [0, 1, 2], [0, 1, 2, 4], [-1, 0, 1, 2]])
def test_an_order_has_every_item_once(items: list[int], tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 4)
    with pytest.raises(LedgerError, match="once each"):
        put(queue, items)
    assert newest_order(queue) is None
    (finding,) = check_orders(queue)
    assert finding.reason == "bad_order" and finding.where == order_key(1)


def test_a_damaged_order_is_passed_over_and_reported(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 4)
    put(queue, [3, 2, 1, 0])
    second = put(queue, [2, 3, 1, 0], made_of="c")
    third = put(queue, [1, 0, 2, 3], made_of="d")
    folder = tmp_path / "queue/orders"
    (folder / "00000003.json").write_bytes(b"{}")
    (folder / f"{second.document.table.sha256}.parquet").write_bytes(b"PAR1")
    (folder / "notes.txt").write_text("mine")
    assert newest_order(queue).document.number == 1  # type: ignore[union-attr]
    found = [finding.where for finding in verify_queue(queue, pictures=False).findings]
    assert found == ["orders/notes.txt", order_key(2), order_key(3)]
    assert put(queue, [0, 1, 2, 3], made_of="e").document.number == 4
    assert newest_order(queue, third).document.number == 4  # type: ignore[union-attr]


def test_an_order_of_another_queue_and_a_missing_one(tmp_path: Path) -> None:
    queue, other = make_queue(tmp_path / "a", 4), make_queue(tmp_path / "b", 4, budget=7)
    put(other, [3, 2, 1, 0])
    (tmp_path / "b/queue/orders").rename(tmp_path / "a/queue/orders")
    assert newest_order(queue) is None
    (finding,) = check_orders(queue)
    assert "it ranks the queue" in finding.detail
    (tmp_path / "a/queue/orders/00000001.json").rename(tmp_path / "a/queue/orders/00000002.json")
    assert "missing" in next(check_orders(queue)).detail


def test_a_round_is_due_after_its_answers(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 4)
    assert [is_due(None, spent, 10) for spent in (0, 9, 10, 25)] == [False, False, True, True]
    order = put(queue, [3, 2, 1, 0], answers=12)
    assert [is_due(order, spent, 10) for spent in (12, 19, 20)] == [False, False, True]
    assert not is_due(None, 100, 0)


def test_items_sort_as_annotators_were_asked(tmp_path: Path) -> None:
    """Items 0 and 1 were answered in the first order, 4 and 5 in the second; 3 and 2 are next in the third."""
    queue = make_queue(tmp_path, 6)
    assert places_asked(queue).tolist() == [*range(6)]
    put(queue, [1, 0, 4, 5, 2, 3], made_of="c", settled=2)
    put(queue, [0, 4, 1, 5, 3, 2], made_of="d", settled=4)
    assert sorted(range(6), key=places_asked(queue).tolist().__getitem__) == [0, 1, 4, 5, 3, 2]
    queue.store.put(order_key(2), b"?")
    assert sorted(range(6), key=places_asked(queue).tolist().__getitem__) == [0, 1, 4, 5, 2, 3], "as `newest_order`"


def test_items_sort_as_annotators_were_asked_in_rounds(tmp_path: Path) -> None:
    """Each round of 5 answers reverses what is left: the order of asking, from the orders alone."""
    queue = make_queue(tmp_path, 12, budget=18)
    uids = queue.items.column("uid").to_pylist()
    pq.write_table(pa.table({"uid": uids, "votes": [[3, 1, 1]] * 12}), tmp_path / "votes")
    asked: list[int] = []
    record = Queue.record

    def ranker() -> Order:
        found = [(state.item, state.winner is not None, bool(state.votes.labels)) for state in states(queue)]
        settled = [item for item, done, _ in found if done]
        started = [item for item, done, labels in found if labels and not done]
        left = [item for item, done, labels in reversed(found) if not done and not labels]
        made_of = f"{len(settled):x}"[-1]
        return put(queue, settled + started + left, made_of=made_of, answers=len(asked), settled=len(settled))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "record", lambda self, one: asked.append(one.item) or record(self, one))
        annotate(queue, Simulated(distribution=str(tmp_path / "votes"), seed=2), every=5, ranker=ranker)
    places = places_asked(queue)
    first = list(dict.fromkeys(asked))
    cut = {asked[n] for n in (5, 10, 15) if asked[n] == asked[n - 1]}  # asked in two rounds: it sorts with the last
    assert len(asked) == 18 and len(first) == 10 and first != sorted(first)
    assert [item for item in sorted(first, key=places.__getitem__) if item not in cut] == [
        item for item in first if item not in cut
    ]
