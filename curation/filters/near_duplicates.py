"""Images that look the same, such as one image re-encoded, resized or slightly changed, of which one is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from curation.core.hashes import BLANK
from curation.filters.filter import table_of
from curation.filters.first_come import Array, dropped_items
from curation.filters.hamming import MOST_DISTANCE, are_near, pairs_within
from curation.filters.hash_sets import Hashes, InMemory, OnDisk
from curation.filters.sorted_values import distinct_values, fits_in_memory, read_sorted, repeated_values
from curation.filters.vectors import stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Drop an image whose perceptual hash differs in at most `distance` of 64 bits from that of a kept image.

    Samples come in the order of `prefer`, the highest score first (ties: smaller uid), or without `prefer` in source
    order. A sample is kept unless an earlier kept sample is within the distance. Every dropped image thus resembles a
    kept one, and a chain of small changes is not reduced to its first link. `hash` is the column of a scorer `phash`.

    A blank image (hash 0, see the scorer `phash`) is dropped only when a kept image has the same bytes, because its
    hash has no information. The hash of a symmetric drawing has less information than others, so fewer bits may differ:
    2 instead of 4 for one axis of symmetry, 1 for two (`hamming.are_near`). Every pair within the distance is found:
    two such hashes agree in all bits of at least one of a few masks (`filters/covering.py`), and hashes that agree in
    a mask are compared.
    Cost: C sorts of n different hashes and C n^2 / 2^(k + 1) comparisons, more where images are similar, with masks of
    k bits chosen for the lowest cost. For a distance of 4 and 10 million hashes: 20 sorts by 26 bits, 4 s of CPU in
    all. Up to 33 million samples are processed in memory, at 24 bytes each; more out of core, where a sort takes about
    seven times as long. The pairs are then sorted once and decided in one pass, with a byte of memory for each hash
    that has a neighbour.
    Source: banded search as in Norouzi et al. (1307.2982), with coverings instead of all sets of blocks.
    Example: near_duplicates: {distance: 4, prefer: clip_score}
    """

    code: ClassVar[int] = 2

    hash: str = "phash"
    distance: int = 4
    prefer: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= MOST_DISTANCE:
            limits = f"must be from 0 to {MOST_DISTANCE} of 64 bits: at more, most images are near some other image"
            raise ValueError(f"distance is {self.distance}, but {limits}")

    def columns(self) -> Sequence[str]:
        return (self.hash, "content_hash", *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of hashes that are repeated or near others: `h`, and the `id` of the kept sample for it."""
        again, edges = f"{self._table}_again", f"{self._table}_e"
        hashes = self._read(db, again) if fits_in_memory(db) else self._spool(db, again)
        db.execute(f"CREATE OR REPLACE TABLE {edges} (a BIGINT, b BIGINT)")
        for a, b in pairs_within(hashes, self.distance):
            near = are_near(a, b, self.distance)
            a, b = a[near], b[near]
            insert(db, edges, pa.table({"a": a.view(np.int64), "b": b.view(np.int64)}))
        self._number(db, f"SELECT a AS h FROM {edges} UNION SELECT b FROM {edges} UNION FROM {again}")
        self._decide(db, edges)
        for table in (again, edges, self._numbered):
            db.execute(f"DROP TABLE {table}")
        db.execute(f"DROP TABLE IF EXISTS {self._table}_h")

    def copies(self) -> str:
        """SQL of `id, detail, stays`: each dropped sample, and the kept sample that it duplicates."""
        first = f"first_value(id) OVER (PARTITION BY content_hash ORDER BY {self._order})"
        return f"""
            SELECT alive.id, '' AS detail, same.id AS stays
            FROM alive JOIN {self._table} same ON same.h = alive."{self.hash}" WHERE alive.id <> same.id
            UNION ALL
            SELECT id, '', stays FROM (
                SELECT id, {first} AS stays FROM alive WHERE {self._bits} = {BLANK} AND content_hash IS NOT NULL
            ) WHERE id <> stays"""

    def drops(self) -> str:
        return f"SELECT id, detail FROM ({self.copies()})"

    @property
    def _table(self) -> str:
        return table_of(self, "near")

    @property
    def _order(self) -> str:
        return f'alive."{self.prefer}" DESC, alive.uid' if self.prefer else "alive.id"

    def _read(self, db: duckdb.DuckDBPyConnection, again: str) -> Hashes:
        """Read the different hashes into an array, and put those of more than one sample into the table `again`."""
        found = read_sorted(db, self._hashes)
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} (h BIGINT)")
        insert(db, again, pa.table({"h": repeated_values(found).view(np.int64)}))
        return InMemory(distinct_values(found))

    def _spool(self, db: duckdb.DuckDBPyConnection, again: str) -> Hashes:
        """Put the different hashes, and those of more than one sample (`again`), into tables."""
        db.execute(f"""
            CREATE OR REPLACE TABLE {self._table}_h AS
            SELECT h, count(*) AS n FROM ({self._hashes}) GROUP BY h""")
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} AS SELECT h FROM {self._table}_h WHERE n > 1")
        return OnDisk(db, f"{self._table}_h")

    def _number(self, db: duckdb.DuckDBPyConnection, hashes: str) -> None:
        """Create a table of these hashes: `h`, the `id` of its first sample, and the hash's `place` in that order."""
        own = f"SELECT alive.id, {self._bits} AS h FROM alive"
        first = f"SELECT h, min(id) AS id FROM ({own}) SEMI JOIN ({hashes}) USING (h) GROUP BY h"
        order = "id"
        if self.prefer:
            own = f'SELECT alive.id, alive.uid, alive."{self.prefer}" AS preference, {self._bits} AS h FROM alive'
            order = "preference DESC, uid"
            first = f"""SELECT * FROM ({own}) SEMI JOIN ({hashes}) USING (h)
                QUALIFY row_number() OVER (PARTITION BY h ORDER BY {order}) = 1"""
        db.execute(f"""
            CREATE OR REPLACE TABLE {self._numbered} AS
            SELECT h, id, row_number() OVER (ORDER BY {order}) - 1 AS place FROM ({first})""")

    def _decide(self, db: duckdb.DuckDBPyConnection, edges: str) -> None:
        """Create the filter's table: hashes, each with the id of the kept sample that its other samples duplicate."""
        numbered, gone = self._numbered, f"{self._table}_gone"
        ((count,),) = db.execute(f"SELECT count(*) FROM {numbered}").fetchall()
        db.execute(f"CREATE OR REPLACE TEMP TABLE {gone} (place BIGINT, stays BIGINT)")
        for place, stays in dropped_items(self._links(db, edges, count), count):
            insert(db, gone, pa.table({"place": place, "stays": stays}))
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table} AS
            SELECT t.h, coalesce(s.id, t.id) AS id
            FROM {numbered} t LEFT JOIN {gone} g USING (place) LEFT JOIN {numbered} s ON s.place = g.stays""")
        db.execute(f"DROP TABLE {gone}")

    def _links(self, db: duckdb.DuckDBPyConnection, edges: str, count: int) -> Iterator[tuple[Array, Array]]:
        """Yield the pairs as places (later, earlier), sorted by both as one number, which sorts fastest."""
        link = f"greatest(x.place, y.place) * {count} + least(x.place, y.place)"
        joined = f"FROM {edges} e JOIN {self._numbered} x ON x.h = e.a JOIN {self._numbered} y ON y.h = e.b"
        for batch in stream(db, f"SELECT {link} AS link {joined} ORDER BY link"):
            later, earlier = np.divmod(batch.column(0).to_numpy(), count)
            yield later, earlier

    @property
    def _numbered(self) -> str:
        return f"{self._table}_numbered"

    @property
    def _hashes(self) -> str:
        return f"SELECT {self._bits} AS h FROM alive WHERE {self._bits} <> {BLANK}"

    @property
    def _bits(self) -> str:
        return f'alive."{self.hash}" & -1::BIGINT'  # an error for a column of another type
