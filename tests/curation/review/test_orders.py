"""Orders of a queue: numbered, created once, every item once; damaged ones are passed over and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from review_queues import make_queue

from curation.core.errors import LedgerError
from curation.review.orders import (
    ORDER_SCHEMA,
    Order,
    check_orders,
    create_order,
    is_due,
    newest_order,
    order_key,
)
from curation.review.queue import Queue
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
