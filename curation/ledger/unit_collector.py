"""The collector that reassembles units from streamed rows: batches cross unit boundaries, tables don't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.types import ShardRef


@dataclass(frozen=True)
class ScoredUnit:
    """All rows of one unit in order, without its end row.

    `reason` is set if the archive itself is broken; `failure` if the shard could not be read (then commit nothing).
    """

    shard: ShardRef
    rows: pa.Table
    reason: str | None
    failure: str | None = None
    detail: str | None = None  # additional information about the reason


class Collector:
    """Collects streamed rows into units.

    Rows may arrive in any order and more than once (a retried task repeats its rows); further rows of a complete unit
    are dropped. Memory: the rows of incomplete units, without pixels, and 80 bytes a unit.
    """

    def __init__(self) -> None:
        self._pending: dict[ShardRef, _Rows] = {}
        self._done: set[bytes] = set()  # digests: references would be five times as large

    def add(self, table: pa.Table) -> Iterator[ScoredUnit]:
        """Add rows of `STREAM_SCHEMA`; yield every unit that they complete."""
        for shard, rows in _runs(table):
            name = sha256(repr(tuple(shard)).encode()).digest()[:16]
            if name in self._done:
                continue
            pending = self._pending.setdefault(shard, _Rows())
            pending.add(rows)
            if (unit := pending.unit(shard)) is not None:
                if unit.failure is None:
                    self._done.add(name)
                del self._pending[shard]
                yield unit


class _Rows:
    """The rows of one unit that have arrived."""

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []
        self.count = 0  # rows, including repeated ones
        self.end: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        last = rows.column("end")
        if pc.any(last).as_py():
            self.end = rows.filter(last)
            rows = rows.filter(pc.invert(last))
        self.parts.append(rows)
        self.count += rows.num_rows

    def unit(self, shard: ShardRef) -> ScoredUnit | None:
        """Return the unit if its end row and all rows before it have arrived, else None."""
        if self.end is None:
            return None
        expected, reason, detail = (self.end.column(name)[0].as_py() for name in ("row", "reason", "detail"))
        if 0 <= self.count < expected:
            return None
        rows = pa.concat_tables(self.parts)
        if expected < 0:
            return ScoredUnit(shard, rows, None, failure=reason)
        order = np.unique(rows.column("row").to_numpy(), return_index=True)[1]  # sorted, repeats dropped
        if len(order) < expected:
            self.parts = [rows.take(pa.array(order))]
            self.count = len(order)
            return None
        return ScoredUnit(shard, rows.take(pa.array(order)).combine_chunks(), reason, detail=detail)


def _runs(table: pa.Table) -> Iterator[tuple[ShardRef, pa.Table]]:
    """Split a table where the shard changes."""
    shards = list(
        zip(*(table.column(name).to_pylist() for name in ("shard_key", "shard_size", "shard_etag")), strict=True)
    )
    start = 0
    for stop in range(1, len(shards) + 1):
        if stop == len(shards) or shards[stop] != shards[start]:
            yield ShardRef(*shards[start]), table.slice(start, stop - start)
            start = stop
