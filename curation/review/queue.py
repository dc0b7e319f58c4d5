"""A queue at a store URL: open it, create it, read its answers, record one.

A create-only put decides every answer; nothing is listed in order to decide. Opening costs two GETs. `record` costs one
put, and a GET where the key is taken. Reading all answers costs a listing a page and a small GET an answer, and holds
the answers of one page (1,000 items) at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa

from curation.core.digest import canonical
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.parallel import map_ordered
from curation.ledger.documents import base
from curation.ledger.named_objects import read_named
from curation.review.documents import (
    ANSWERS,
    ITEMS_SCHEMA,
    PAGE,
    QUEUE_KEY,
    AnswerRecord,
    QueueDocument,
    answer_key,
    item_folder,
    page_folder,
    parse_answer_key,
)
from curation.review.votes import StoredAnswer, counted_label
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.probe import probe
from curation.storage.store import Store, StoreOptions, open_store

_FIX = "restore it from a backup, or build another queue and import the answers"
Outcome = Literal["created", "repeated", "taken"]


@dataclass(frozen=True)
class Queue:
    """A queue. `sha256`, of its document, is its identity."""

    store: Store
    document: QueueDocument
    sha256: str

    @cached_property
    def items(self) -> pa.Table:
        """The items in rank order (`ITEMS_SCHEMA`): about 1 KB each, in memory. Raises `LedgerError`."""
        pin = self.document.items
        where = self.store.location(pin.key)
        try:
            table = from_parquet(read_named(self.store, pin.key, pin.sha256, _FIX), ITEMS_SCHEMA.names)
            table = table.cast(ITEMS_SCHEMA).combine_chunks()
        except (pa.ArrowException, KeyError) as error:
            raise LedgerError(f"{where} is not a table of items: {str(error).splitlines()[0]}", fix=_FIX) from None
        if table.num_rows != pin.rows or table.column("item").to_pylist() != list(range(pin.rows)):
            raise LedgerError(f"{where} does not have the items 0 to {pin.rows - 1} in order", fix=_FIX)
        return table

    @cached_property
    def labels(self) -> list[str | None]:
        """The current label of each item as far as it counts as a vote: None where it is missing or no class."""
        classes = set(self.document.classes)
        return [counted_label(label, classes) for label in self.items.column("label").to_pylist()]

    def row(self, item: int) -> dict[str, Any]:
        """Return an item's row as a dictionary."""
        found: dict[str, Any] = self.items.slice(item, 1).to_pylist()[0]
        return found

    def answer(
        self, kind: str, item: int, reviewer: str, n: int, label: str | None = None, at: str = ""
    ) -> AnswerRecord:
        """Return an answer to this queue, not recorded yet. Raises `ValueError` for fields that are not valid."""
        more = {"label": label} if label is not None else {}
        more |= {"at": at} if at else {}
        fields = {"kind": kind, "item": item, "reviewer": reviewer, "n": n, "queue": self.sha256, **more}
        fields["nonce"] = secrets.token_hex(8)
        return AnswerRecord.model_validate(fields)

    def record(self, answer: AnswerRecord) -> Outcome:
        """Put an answer, if its number is free. `repeated`: the same answer is stored; `taken`: another one is."""
        key = answer_key(answer.item, answer.reviewer, answer.n)
        if self.store.create(key, canonical(answer.to_json())):
            return "created"
        stored = self._read(key)
        same = stored is not None and stored.record is not None and stored.record.meaning == answer.meaning
        return "repeated" if same else "taken"

    def answers_of(self, item: int) -> list[StoredAnswer]:
        """Return the stored answers to one item. Costs one listing and a GET for each."""
        keys = (found.key for found in self.store.list(item_folder(item), etags=False))
        return [answer for answer in map(self._read, keys) if answer is not None]

    def answer_pages(self) -> Iterator[tuple[range, Mapping[int, Sequence[StoredAnswer]]]]:
        """Yield, page by page, the items of the page, and the stored answers of those that have any."""
        rows = self.document.items.rows
        for first in range(0, rows, PAGE):
            keys = (found.key for found in self.store.list(page_folder(first), etags=False))
            answers = [answer for answer in map_ordered(self._read, keys) if answer is not None]
            answers.sort(key=lambda answer: answer.item)
            groups = {item: list(group) for item, group in groupby(answers, key=lambda answer: answer.item)}
            yield range(first, min(first + PAGE, rows)), groups

    def stray_keys(self) -> Iterator[str]:
        """Yield the keys below `answers/` that are not those of an answer to an item of this queue."""
        for found in self.store.list(ANSWERS, etags=False):
            place = parse_answer_key(found.key)
            if place is None or place[0] >= self.document.items.rows:
                yield found.key

    def _read(self, key: str) -> StoredAnswer | None:
        """Read an answer; None for a key that is not an answer's, and for one that is gone."""
        if (place := parse_answer_key(key)) is None:
            return None
        try:
            record = base.read(self.store, key, AnswerRecord, _FIX)
        except LedgerError as error:
            return StoredAnswer(*place, key, None, str(error))
        except NotFoundError:
            return None
        return StoredAnswer(*place, key, record)


def open_queue(url: str, options: StoreOptions | None = None) -> Queue:
    """Open the queue at a URL. Raises `UserError` if there is none, and `LedgerError` for a damaged document."""
    store = open_store(url, options)
    try:
        data = store.get(QUEUE_KEY)
    except NotFoundError:
        fix = "check the URL, or create it: curate review build RECIPE --budget N --out URL"
        raise UserError(f"{store.url} is not a review queue: it has no {QUEUE_KEY}", fix=fix) from None
    document = base.parse(data, QueueDocument, store.location(QUEUE_KEY), _FIX)
    return Queue(store, document, sha256(data).hexdigest())


def is_queue(url: str) -> bool:
    """Whether there is a queue at a URL. Costs one request."""
    return open_store(url).exists(QUEUE_KEY)


def create_queue(url: str, document: Mapping[str, Any], items: pa.Table, options: StoreOptions | None = None) -> Queue:
    """Create a queue of these items, or return the one that exists if it is the same.

    document: `QueueDocument` without `kind`, `version` and `items`. Raises `UserError` if the URL holds another queue.
    """
    store = open_store(url, options)
    probe(store)
    data = to_parquet(items.cast(ITEMS_SCHEMA))
    sha = sha256(data).hexdigest()
    pin = {"key": f"items-{sha}.parquet", "sha256": sha, "bytes": len(data), "rows": items.num_rows}
    text = canonical({"kind": "review_queue", "version": 1, **document, "items": pin})
    base.parse(text, QueueDocument, store.location(QUEUE_KEY), "check the options of the command")
    store.put(str(pin["key"]), data)  # equal bytes for an equal name: to replace it changes nothing
    if not store.create(QUEUE_KEY, text):
        fix = "name another folder with --out, or continue with the queue there: curate review status"
        raise UserError(f"{store.url} holds another review queue", fix=fix)
    return open_queue(url, options)
