"""Orders: how the items of a queue are ranked after some answers. The first order is that of the items themselves.

    <queue>/orders/<number>.json            create-only: what the order was made of, and the sha256 of its table
    <queue>/orders/<sha256>.parquet         every item once, with its priority

The orders are numbered from 1, and the highest number counts. The first process to create a number wins, so that
servers agree; a process that was killed before left at most a table that no document names. An answer belongs to an
item, and not to an order: an answered item stays answered, and an item on a screen takes its answer, in every order.
Finding the newest order costs a GET for each order, and one of its table (8 bytes an item in memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.ledger.documents import Document, base
from curation.ledger.documents.base import Count, Number, Sha256, Text
from curation.ledger.named_objects import read_named
from curation.review.findings import QueueFinding
from curation.review.queue import Queue
from curation.storage.parquet import from_parquet, to_parquet

ORDERS = "orders"
ORDER_SCHEMA = pa.schema([("item", pa.int32()), ("priority", pa.float32())])  # without a priority: null
_NUMBER, _TABLE = re.compile(rf"{ORDERS}/(\d{{8}})\.json"), re.compile(rf"{ORDERS}/[0-9a-f]{{64}}\.parquet")
_FIX = "restore it from a backup, or delete the newest order's document and rank again: curate review rerank"
Items = np.ndarray[Any, np.dtype[np.int32]]


class OrderTable(Document):
    """The table of an order."""

    sha256: Sha256
    bytes: Count
    rows: Count


class OrderChange(Document):
    """What an order changed among the items left. correlation: Spearman's, of their ranks before and after.

    entered: of the next `next` items, those that were not among them before. The two are 0 where nothing was left.
    """

    left: Count
    correlation: Number
    next: Count
    entered: Count


class OrderDocument(Document):
    """An order. `made_of`: hash of everything that determines it: the queue, its answers, classifiers and settings.

    `answers`: answers in effect that it follows from. `settled`: answered items, which the table has first. `trained`:
    pictures that the classifiers were fine-tuned on.
    """

    kind: Literal["review_order"]
    version: Literal[1]
    queue: Sha256
    number: Annotated[int, Field(ge=1, lt=10**8)]
    made_of: Sha256
    answers: Count
    settled: Count
    trained: Count
    priority: Text
    weights_sha256: Sha256
    table: OrderTable
    change: OrderChange


@dataclass(frozen=True)
class Order:
    """An order with its items, the next one first after those that were answered when it was made."""

    document: OrderDocument
    items: Items
    created: bool = False  # by this process

    @property
    def left(self) -> list[int]:
        """The items that were not answered, in order."""
        found: list[int] = self.items[self.document.settled :].tolist()
        return found


def order_key(number: int) -> str:
    """Return the key of an order's document."""
    return f"{ORDERS}/{number:08d}.json"


def is_due(newest: Order | None, spent: int, every: int) -> bool:
    """Whether answers have completed a round of `every` since the newest order was made."""
    return every > 0 and spent // every > (0 if newest is None else newest.document.answers) // every


def newest_order(queue: Queue, known: Order | None = None) -> Order | None:
    """Return the newest sound order; None without any. known: an order read before, whose later ones are asked for.

    A damaged order is passed over; `curate verify` reports it. Costs one GET if there is no later one.
    """
    first = 1 if known is None else known.document.number + 1
    documents = list(_documents(queue, first))
    for document in reversed(documents):
        if isinstance(document, OrderDocument) and document.queue == queue.sha256:
            try:
                return Order(document, _items(queue, document))
            except LedgerError:
                continue
    return known


def create_order(queue: Queue, about: Mapping[str, Any], table: pa.Table) -> Order:
    """Store an order under the first free number, and return it; or the newest one, if that is made of the same.

    about: `OrderDocument` without `kind`, `version`, `queue`, `number` and `table`. Another process may have taken the
    number since the answers were read: then its order is returned, and the items are ranked again with the next round.
    """
    number = 1 + sum(1 for _ in _documents(queue, 1))
    data = to_parquet(table.cast(ORDER_SCHEMA))
    pin = {"sha256": sha256(data).hexdigest(), "bytes": len(data), "rows": table.num_rows}
    document = {"kind": "review_order", "version": 1, "queue": queue.sha256, "number": number, **about, "table": pin}
    text = canonical(document)
    parsed = base.parse(text, OrderDocument, queue.store.location(order_key(number)), _FIX)
    queue.store.put(f"{ORDERS}/{pin['sha256']}.parquet", data)  # equal bytes for an equal name
    created = queue.store.create(order_key(number), text)
    if created:
        return Order(parsed, _items(queue, parsed), created=True)
    newest = newest_order(queue)
    return newest if newest is not None else create_order(queue, about, table)


def places_asked(queue: Queue) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a number for each item by which items sort as an annotator is asked about them, over all orders.

    An item's place is that in the last order before it was answered. Reads all orders: 8 bytes an item for each.
    """
    rows = queue.document.items.rows
    places = np.arange(rows, dtype=np.int64)
    for document in _documents(queue, 1):
        if not isinstance(document, OrderDocument) or document.queue != queue.sha256:
            continue
        try:
            left = _items(queue, document)[document.settled :]
        except LedgerError:
            continue
        places[left] = np.arange(document.settled, rows) + document.number * rows
    return places


def check_orders(queue: Queue) -> Iterator[QueueFinding]:
    """Yield what is wrong with the orders of a queue. Reads all of them."""
    numbers = []
    for found in queue.store.list(ORDERS, etags=False):
        if (name := _NUMBER.fullmatch(found.key)) is not None:
            numbers.append(int(name[1]))
        elif _TABLE.fullmatch(found.key) is None:
            yield QueueFinding(None, "bad_order", "not the key of an order", found.key)
    for number in range(1, max(numbers, default=0) + 1):
        if (flaw := _flaw(queue, number)) is not None:
            yield QueueFinding(None, "bad_order", flaw, order_key(number))


def _flaw(queue: Queue, number: int) -> str | None:
    """Return what is wrong with an order, or None."""
    try:
        document = base.find(queue.store, order_key(number), OrderDocument, _FIX)
        if document is None:
            return f"order {number} is missing, though a later one exists"
        if document.queue != queue.sha256:
            return f"it ranks the queue {document.queue[:16]}, not {queue.sha256[:16]}"
        _items(queue, document)
    except LedgerError as error:
        return str(error)
    return None if document.number == number else f"its field `number` is {document.number}"


def _documents(queue: Queue, first: int) -> Iterator[OrderDocument | None]:
    """Yield the documents from a number on; None for a damaged one."""
    number = first
    while True:
        try:
            document = base.find(queue.store, order_key(number), OrderDocument, _FIX)
        except LedgerError:
            yield None
        else:
            if document is None:
                return
            yield document
        number += 1


def _items(queue: Queue, document: OrderDocument) -> Items:
    """Read the table of an order. Raises `LedgerError` unless it has every item of the queue once."""
    key = f"{ORDERS}/{document.table.sha256}.parquet"
    try:
        table = from_parquet(read_named(queue.store, key, document.table.sha256, _FIX), ORDER_SCHEMA.names)
        items: Items = table.cast(ORDER_SCHEMA).column("item").to_numpy().astype(np.int32)
    except (pa.ArrowException, KeyError) as error:
        text = f"{queue.store.location(key)} is not a table of an order: {str(error).splitlines()[0]}"
        raise LedgerError(text, fix=_FIX) from None
    rows = queue.document.items.rows
    if len(items) != rows or not np.array_equal(np.sort(items), np.arange(rows)) or document.settled > rows:
        raise LedgerError(f"{queue.store.location(key)} does not have the items 0 to {rows - 1} once each", fix=_FIX)
    return items
