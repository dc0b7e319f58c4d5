"""All but the best of the pictures that look the same: one image re-encoded, resized, slightly changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

BITS = 64
MOST_DISTANCE = 12  # beyond it, most pictures are linked by some other


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pictures whose perceptual hashes differ in at most `distance` of 64 bits, or that others link: one of each stays.

    Of each group the sample with the highest `prefer` score stays (ties: smaller uid), or the first in source
    order. Every pair within the distance is found: the bits are cut into blocks, of which two hashes that near agree in
    all but `distance`; they are compared where they agree in some choice of blocks (Norouzi et al. 2014, 1307.2982,
    with combinations of blocks for keys). Cost: of n different hashes, C joins of n rows and C n^2 / 2^(k + 1)
    comparisons, where the blocks are cut so that this is least (for a distance of 4 and 10 million hashes: 35 joins on
    27 bits, 10 million comparisons); out of core. Connected components then take a few passes over the pairs that were
    found. `hash` is the column of a scorer `phash`.
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
        """Make the table of hashes that are linked to others: `h`, and `root`, the least hash of its component."""
        name = self._table
        db.execute(f'CREATE OR REPLACE TEMP TABLE {name}_h AS SELECT DISTINCT "{self.hash}" AS h FROM alive')
        row = db.execute(f"SELECT count(*) FROM {name}_h").fetchone()
        db.execute(f"CREATE OR REPLACE TEMP TABLE {name}_e (a BIGINT, b BIGINT)")
        for mask in masks(self.distance, row[0] if row else 0) if self.distance else ():
            db.execute(f"""
                INSERT INTO {name}_e SELECT x.h, y.h FROM {name}_h x JOIN {name}_h y ON x.h & {mask} = y.h & {mask}
                WHERE x.h < y.h AND bit_count(xor(x.h, y.h)) <= {self.distance}""")
        components(db, f"{name}_e", name)
        db.execute(f"DROP TABLE {name}_h; DROP TABLE {name}_e")

    def drops(self) -> str:
        order = f'"{self.prefer}" DESC, uid' if self.prefer else "id"
        return f"""
            SELECT id, '' AS detail FROM (
                SELECT id, row_number() OVER (PARTITION BY coalesce(root, h) ORDER BY {order}) AS place
                FROM (SELECT *, "{self.hash}" AS h FROM alive) LEFT JOIN {self._table} USING (h)
            ) WHERE place > 1"""

    @property
    def _table(self) -> str:
        return f"near_{self.hash}_{self.distance}".replace(".", "_")


def masks(distance: int, hashes: int) -> Iterator[int]:
    """Sets of bits, as int64, in one of which any two hashes within `distance` agree wholly."""
    blocks = min(range(distance + 1, BITS + 1), key=lambda blocks: _cost(blocks, distance, hashes))
    bounds = [round(n * BITS / blocks) for n in range(blocks + 1)]
    parts = [(1 << stop) - (1 << start) for start, stop in pairwise(bounds)]
    for chosen in combinations(parts, blocks - distance):
        mask = sum(chosen)
        yield mask - (1 << BITS) if mask >> (BITS - 1) else mask


def _cost(blocks: int, distance: int, hashes: int) -> float:
    """Rows joined and pairs compared, all told, with hashes as evenly spread as they can be."""
    key = BITS * (blocks - distance) / blocks
    return comb(blocks, distance) * (hashes + hashes**2 / 2 ** (key + 1))


def components(db: duckdb.DuckDBPyConnection, edges: str, into: str) -> None:
    """Connected components of the pairs (a, b) in `edges`, as the table `into` (h, root): root is the least of each.

    Labels spread along the edges and jump to their labels' labels, so a chain of n takes about log2 n passes.
    """
    make = "CREATE OR REPLACE TEMP TABLE"
    db.execute(f"{make} {into}_ends AS SELECT a, b FROM {edges} UNION SELECT b, a FROM {edges}")
    db.execute(f"{make} {into} AS SELECT a AS h, least(a, min(b)) AS root FROM {into}_ends GROUP BY a")
    changed = True
    while changed:
        db.execute(f"""
            {make} {into}_next AS
            WITH spread AS (
                SELECT e.a AS h, least(any_value(own.root), min(other.root)) AS root
                FROM {into}_ends e JOIN {into} own ON own.h = e.a JOIN {into} other ON other.h = e.b GROUP BY e.a
            )
            SELECT spread.h, least(spread.root, jump.root) AS root
            FROM spread JOIN spread jump ON jump.h = spread.root""")
        same = f"SELECT 1 FROM {into} x JOIN {into}_next y USING (h) WHERE x.root <> y.root LIMIT 1"
        changed = bool(db.execute(same).fetchall())
        db.execute(f"DROP TABLE {into}; ALTER TABLE {into}_next RENAME TO {into}")
    db.execute(f"DROP TABLE {into}_ends")
