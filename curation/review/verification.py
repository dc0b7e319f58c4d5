"""Verify a queue: its document, its items, every answer, its orders, and the counts.

Each finding names an item and a reason. Reads every answer and every order once, and with `pictures` every sample: a
ranged read and a decode each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from curation.core.errors import LedgerError
from curation.core.parallel import map_ordered
from curation.core.progress import Tick
from curation.review.findings import QueueFinding
from curation.review.orders import check_orders
from curation.review.queue import Queue
from curation.review.samples import inspect_sample
from curation.review.status import QueueStatus, states
from curation.shards.sample_reader import SampleReader
from curation.storage.store import open_store

THREADS = 4


@dataclass
class QueueVerification:
    """What `verify_queue` found: the counts, and the findings in the order of the items."""

    status: QueueStatus
    findings: list[QueueFinding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        found = [finding.to_json() for finding in self.findings]
        return {"ok": not self.findings, **self.status.to_json(), "findings": found}


def verify_queue(queue: Queue, *, pictures: bool = True, tick: Tick = lambda n: None) -> QueueVerification:
    """Check a queue, and return what was found. Raises `LedgerError` for a document or items that can't be read.

    pictures: read every sample again, decode its picture, and compare its label with the item's.
    """
    status = QueueStatus(budget=queue.document.budget)
    found = QueueVerification(status)
    found.findings += _of_items(queue)
    for state in states(queue, tick):
        status.add(state)
        found.findings += state.findings
    if status.open + status.answered + status.refused != status.items or status.items != queue.document.items.rows:
        raise LedgerError(f"{queue.store.url}: the counts do not add up: {status.to_json()}")
    for key in queue.stray_keys():
        found.findings.append(QueueFinding(None, "bad_answer", "not the key of an answer to an item", key))
    found.findings += check_orders(queue)
    if pictures:
        found.findings += _of_samples(queue, tick)
    found.findings.sort(key=lambda finding: (finding.item is None, finding.item or 0))
    return found


def _of_items(queue: Queue) -> Iterator[QueueFinding]:
    """Yield what the build found about items, and uids that occur twice."""
    table = queue.items.select(["item", "uid", "reason", "detail"])
    seen: dict[str, int] = {}
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            if row["reason"] is not None:
                yield QueueFinding(row["item"], row["reason"], row["detail"] or "")
            first = seen.setdefault(row["uid"], row["item"])
            if first != row["item"]:
                yield QueueFinding(row["item"], "bad_item", f"the sample {row['uid']} is item {first}, too")


def _of_samples(queue: Queue, tick: Tick) -> Iterator[QueueFinding]:
    """Yield the samples that changed since the build: gone, not decodable, or with another label."""
    document = queue.document
    limits = document.decoding
    columns = ["item", "source_key", "source_etag", "source_offset", "source_length", "label", "reason"]
    rows = (row for batch in queue.items.select(columns).to_batches(max_chunksize=1000) for row in batch.to_pylist())
    with SampleReader(open_store(document.corpus, queue.store.options)) as reader:

        def one(row: dict[str, Any]) -> QueueFinding | None:
            now = inspect_sample(reader, row, document.label, limits)
            known = row["reason"] if row["reason"] != "unknown_class" else None
            if now.reason != known and now.reason is not None:
                return QueueFinding(row["item"], now.reason, now.detail or "")
            if now.reason is None and now.label != row["label"]:
                return QueueFinding(row["item"], "bad_item", "the sample has another label than the item")
            return None

        for finding in map_ordered(one, rows, THREADS):
            tick(1)
            if finding is not None:
                yield finding
