"""All but the best of the pictures that look the same: one image re-encoded, resized, slightly changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from curation.core.hashes import BLANK
from curation.filters.filter import table_of
from curation.filters.first_come import Array, leaving
from curation.filters.hamming import MOST_DISTANCE, Hashes, InMemory, OnDisk, alike, pairs
from curation.filters.repeats import different, fits, ordered, repeated
from curation.filters.vectors import stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Drop a picture whose perceptual hash differs in at most `distance` of 64 bits from that of one that stays.

    Samples come in order, the highest `prefer` score first (ties: smaller uid), or else in source order; one stays
    unless an earlier one that stays is within the distance. So everything dropped looks like something kept, and a
    chain of small changes is not dropped to its first link. A blank picture (hash 0, see the scorer `phash`) is dropped
    only for one with the same bytes: what it shows, the hash can't say. Of a symmetric drawing it says less, and fewer
    bits may differ: 2 of 4 where it is its own mirror image, 1 where it is so both ways (`hamming.alike`).
    Every pair within the distance is found: two hashes that near agree wholly in the bits of one of a few masks
    (`filters/covering.py`), and are compared where they do. Cost: of n different hashes, C sorts of n numbers and
    C n^2 / 2^(k + 1) comparisons, or more as pictures crowd, with masks of k bits so chosen that this costs least (for
    a distance of 4 and 10 million hashes: 20 sorts by 26 bits, 4 s of CPU in all); in memory up to 33 million samples,
    at 24 bytes each, and beyond out of core, where a sort takes some seven times as much. The pairs that were found are
    sorted once and decided in one pass, with a byte in memory for each hash that has a neighbour. `hash` is the column
    of a scorer `phash`.
    Source: banded search as in Norouzi et al. (1307.2982), with coverings instead of all sets of blocks.
    Example: near_duplicates: {distance: 4, prefer: clip_score}
    """

    code: ClassVar[int] = 2

    hash: str = "phash"
    distance: int = 4
    prefer: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise ValueError(
                f"distance is from 0 to {MOST_DISTANCE} of 64 bits: beyond it, most pictures are near some other"
            )

    def columns(self) -> Sequence[str]:
        return (self.hash, "content_hash", *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of hashes that more than one sample has, or that are near others: `h`, and the `id` of the
        sample for which others with this hash leave."""
        again, edges = f"{self._table}_again", f"{self._table}_e"
        hashes = self._read(db, again) if fits(db) else self._spool(db, again)
        db.execute(f"CREATE OR REPLACE TABLE {edges} (a BIGINT, b BIGINT)")
        for a, b in pairs(hashes, self.distance):
            near = alike(a, b, self.distance)
            a, b = a[near], b[near]
            insert(db, edges, pa.table({"a": a.view(np.int64), "b": b.view(np.int64)}))
        self._number(db, f"SELECT a AS h FROM {edges} UNION SELECT b FROM {edges} UNION FROM {again}")
        self._decide(db, edges)
        for table in (again, edges, self._numbered):
            db.execute(f"DROP TABLE {table}")
        db.execute(f"DROP TABLE IF EXISTS {self._table}_h")

    def copies(self) -> str:
        """SQL of `id, detail, stays`: what leaves, and the sample for which it does."""
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
        """The different hashes as an array, and those of more than one sample as a table."""
        found = ordered(db, self._hashes)
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} (h BIGINT)")
        insert(db, again, pa.table({"h": repeated(found).view(np.int64)}))
        return InMemory(different(found))

    def _spool(self, db: duckdb.DuckDBPyConnection, again: str) -> Hashes:
        """Both as tables."""
        db.execute(f"""
            CREATE OR REPLACE TABLE {self._table}_h AS
            SELECT h, count(*) AS n FROM ({self._hashes}) GROUP BY h""")
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} AS SELECT h FROM {self._table}_h WHERE n > 1")
        return OnDisk(db, f"{self._table}_h")

    def _number(self, db: duckdb.DuckDBPyConnection, hashes: str) -> None:
        """Make a table of these hashes: `h`, its first sample's `id`, and its `place` in the order of these."""
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
        """Make the filter's table: of hashes that leave, with the id of the sample that they leave for."""
        numbered, gone = self._numbered, f"{self._table}_gone"
        ((count,),) = db.execute(f"SELECT count(*) FROM {numbered}").fetchall()
        db.execute(f"CREATE OR REPLACE TEMP TABLE {gone} (place BIGINT, stays BIGINT)")
        for place, stays in leaving(self._links(db, edges, count), count):
            insert(db, gone, pa.table({"place": place, "stays": stays}))
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table} AS
            SELECT t.h, coalesce(s.id, t.id) AS id
            FROM {numbered} t LEFT JOIN {gone} g USING (place) LEFT JOIN {numbered} s ON s.place = g.stays""")
        db.execute(f"DROP TABLE {gone}")

    def _links(self, db: duckdb.DuckDBPyConnection, edges: str, count: int) -> Iterator[tuple[Array, Array]]:
        """The pairs by their places, sorted by the later one, then the earlier: as one number, which sorts fastest."""
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
        return f'alive."{self.hash}" & -1::BIGINT'  # which a column of another kind has not
