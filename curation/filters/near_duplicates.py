"""All but the best of the pictures that look the same: one image re-encoded, resized, slightly changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curation.filters.filter import table_of
from curation.filters.hamming import MOST_DISTANCE, Hashes, InMemory, OnDisk, pairs
from curation.filters.repeats import different, fits, ordered, repeated
from curation.tables import insert

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pictures whose perceptual hashes differ in at most `distance` of 64 bits, or that others link: one of each stays.

    Of each group the sample with the highest `prefer` score stays (ties: smaller uid), or the first in source
    order. Every pair within the distance is found: two hashes that near agree wholly in the bits of one of a few masks
    (`filters/covering.py`), and are compared where they do. Cost: of n different hashes, C sorts of n numbers and
    C n^2 / 2^(k + 1) comparisons, or more as pictures crowd, with masks of k bits so chosen that this costs least (for
    a distance of 4 and 10 million hashes: 20 sorts by 26 bits, 4 s of CPU in all); in memory up to 33 million samples,
    at 24 bytes each, and beyond out of core, where a sort takes some seven times as much. Connected components then
    take a few passes over the pairs that were found. `hash` is the column of a scorer `phash`.
    Source: banded search as in Norouzi et al. (1307.2982), with coverings instead of all sets of blocks.
    Example: near_duplicates: {distance: 4, prefer: clip_score}
    """

    hash: str = "phash"
    distance: int = 4
    prefer: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise ValueError(
                f"distance is from 0 to {MOST_DISTANCE} of 64 bits: beyond it, most pictures are linked by some other"
            )

    def columns(self) -> Sequence[str]:
        return (self.hash, *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of hashes that more than one sample has, or that are linked to others.

        `h`, and `root`, the least hash of its component.
        """
        table, again, edges = self._table, f"{self._table}_again", f"{self._table}_e"
        hashes = self._read(db, again) if fits(db) else self._spool(db, again)
        db.execute(f"CREATE OR REPLACE TEMP TABLE {edges} (a BIGINT, b BIGINT)")
        for a, b in pairs(hashes, self.distance):
            insert(db, edges, pa.table({"a": a.view(np.int64), "b": b.view(np.int64)}))
        components(db, edges, table)
        db.execute(f"INSERT INTO {table} SELECT h, h FROM {again} ANTI JOIN {table} USING (h)")
        db.execute(f"DROP TABLE {again}; DROP TABLE {edges}; DROP TABLE IF EXISTS {table}_h")

    def drops(self) -> str:
        order = f'alive."{self.prefer}" DESC, alive.uid' if self.prefer else "alive.id"
        return f"""
            SELECT id, '' AS detail FROM (
                SELECT alive.id, row_number() OVER (PARTITION BY same.root ORDER BY {order}) AS place
                FROM alive JOIN {self._table} same ON same.h = alive."{self.hash}"
            ) WHERE place > 1"""

    @property
    def _table(self) -> str:
        return table_of(self, "near")

    def _read(self, db: duckdb.DuckDBPyConnection, again: str) -> Hashes:
        """The different hashes as an array, and those of more than one sample as a table."""
        found = ordered(db, f"SELECT {self._bits} FROM alive")
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} (h BIGINT)")
        insert(db, again, pa.table({"h": repeated(found).view(np.int64)}))
        return InMemory(different(found))

    def _spool(self, db: duckdb.DuckDBPyConnection, again: str) -> Hashes:
        """Both as tables."""
        db.execute(f"""
            CREATE OR REPLACE TABLE {self._table}_h AS
            SELECT h, count(*) AS n FROM (SELECT {self._bits} AS h FROM alive) GROUP BY h""")
        db.execute(f"CREATE OR REPLACE TEMP TABLE {again} AS SELECT h FROM {self._table}_h WHERE n > 1")
        return OnDisk(db, f"{self._table}_h")

    @property
    def _bits(self) -> str:
        return f'"{self.hash}" & -1::BIGINT'  # which a column of another kind has not


def components(db: duckdb.DuckDBPyConnection, edges: str, into: str) -> None:
    """Connected components of the pairs (a, b) in `edges`, as the table `into` (h, root): root is the least of each.

    Each points at its least neighbour, or at itself where it is less; pointers are followed to their ends, and what is
    still linked among the ends is a smaller graph, of which the same is asked. In two rounds at least half of the nodes
    go, for all neighbours of one that stays end there. Cost: 1.2 us a pair, where two rounds are enough.
    """
    make, both = "CREATE OR REPLACE TEMP TABLE", f"SELECT a, b FROM {edges} UNION ALL SELECT b, a FROM {edges}"
    db.execute(f"{make} {into} AS SELECT a AS h, least(a, min(b)) AS root FROM ({both}) GROUP BY a")
    followed = f"FROM {into} x JOIN {into} y ON y.h = x.root"
    while db.execute(f"SELECT 1 {followed} WHERE y.root <> x.root LIMIT 1").fetchall():
        db.execute(f"{make} {into}_next AS SELECT x.h, y.root {followed}")
        db.execute(f"DROP TABLE {into}; ALTER TABLE {into}_next RENAME TO {into}")
    left = f"{into}_left"
    db.execute(f"""
        {make} {left} AS SELECT DISTINCT x.root AS a, y.root AS b
        FROM {edges} e JOIN {into} x ON x.h = e.a JOIN {into} y ON y.h = e.b WHERE x.root <> y.root""")
    if db.execute(f"SELECT 1 FROM {left} LIMIT 1").fetchall():
        components(db, left, f"{into}_ends")
        db.execute(f"""
            {make} {into}_next AS SELECT x.h, coalesce(y.root, x.root) AS root
            FROM {into} x LEFT JOIN {into}_ends y ON y.h = x.root""")
        db.execute(f"DROP TABLE {into}; DROP TABLE {into}_ends; ALTER TABLE {into}_next RENAME TO {into}")
    db.execute(f"DROP TABLE {left}")
