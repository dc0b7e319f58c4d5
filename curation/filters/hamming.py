"""All pairs of 64-bit hashes that differ in few bits, for `near_duplicates` and `decontaminate`.

Two hashes within the distance agree in all bits of at least one mask (`covering`). For each mask, sorting brings the
hashes that agree in it together (`hash_sets`), and each is compared with its neighbours (`hash_neighbours`). It is our
own code because no library finds all pairs exactly: FAISS's binary indexes answer queries one by one and hold all
hashes in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.filters.covering import BITS, masks
from curation.filters.hash_neighbours import HashPairs
from curation.filters.hash_sets import Hashes, InMemory, OnDisk
from curation.filters.mask_bits import Array
from curation.filters.sorted_values import IN_MEMORY, contained_in, distinct_values, read_sorted, repeated_values
from curation.filters.vectors import stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

MOST_DISTANCE = 12  # at more, most images are near some other image


def pairs_within(hashes: Hashes, distance: int) -> HashPairs:
    """Yield every pair of hashes within the distance, once: batches of uint64 [N] each."""
    earlier: list[int] = []
    for mask in hashes.mask_order(masks(distance, len(hashes), hashes.compare)) if distance else ():
        for a, b in hashes.agreeing_pairs(mask, distance):
            differ, fresh = a ^ b, np.ones(len(a), bool)
            for one in earlier:  # an earlier mask in which a pair agrees has yielded it
                fresh &= differ & np.uint64(one) != 0
            yield a[fresh], b[fresh]
        earlier.append(mask)


def pairs_between(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> HashPairs:
    """Yield every pair within `distance` of a hash of `ours` and one of `theirs`, once: batches of uint64 [N] each.

    `ours`, `theirs`: SQL that selects BIGINT hashes `h`. All pairs of both sets together are found and those with one
    hash of each set are kept, so the cost is that of the two sets together.
    """
    counted = f"SELECT (SELECT count(*) FROM ({ours})) + (SELECT count(*) FROM ({theirs}))"
    ((count,),) = db.execute(counted).fetchall()
    return (_pairs_between if count <= IN_MEMORY else _pairs_between_on_disk)(db, ours, theirs, distance)


def _pairs_between(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> HashPairs:
    sides = [distinct_values(read_sorted(db, query)) for query in (ours, theirs)]
    both = np.concatenate(sides)
    both.sort()
    same = repeated_values(both)
    yield same, same
    for a, b in pairs_within(InMemory(distinct_values(both)), distance):
        for one, other in ((a, b), (b, a)):
            at = np.flatnonzero(contained_in(one, sides[0]) & contained_in(other, sides[1]))
            yield one[at], other[at]


def _pairs_between_on_disk(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> HashPairs:
    both, found = "hamming_both", "hamming_found"
    db.execute(f"""
        CREATE OR REPLACE TABLE {both} AS SELECT h, bool_or(our) AS our, bool_or(NOT our) AS their
        FROM (SELECT h, true AS our FROM ({ours}) UNION ALL SELECT h, false FROM ({theirs})) GROUP BY h""")
    db.execute(f"CREATE OR REPLACE TABLE {found} AS SELECT h AS a, h AS b FROM {both} WHERE our AND their")
    for a, b in pairs_within(OnDisk(db, both), distance):
        one, other = (np.concatenate(side).view(np.int64) for side in ((a, b), (b, a)))
        insert(db, found, pa.table({"a": one, "b": other}))
    sided = f"SELECT a, b FROM {found} JOIN {both} x ON a = x.h JOIN {both} y ON b = y.h WHERE x.our AND y.their"
    for batch in stream(db, sided):
        a, b = (column.to_numpy().view(np.uint64) for column in batch.columns)
        yield a, b
    db.execute(f"DROP TABLE {both}; DROP TABLE {found}")


def are_near(a: Array, b: Array, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return whether each pair of perceptual hashes differs in few enough bits, bool `[N]`: `distance` bits, or fewer.

    Half of the bits of a hash are set, unless frequencies are absent: a symmetric drawing has at most half of them, and
    their bits are 0 in every such drawing. The hashes of a minus, a plus and an arrow, with 9 bits set, differ in 3
    bits. If a hash has fewer than 32 bits set, the allowed distance therefore shrinks in proportion: for 9 set bits, 1
    instead of 4.
    """
    informative = np.minimum(np.bitwise_count(a), np.bitwise_count(b)).astype(np.int32)
    allowed = (distance * np.minimum(informative, BITS // 2) + BITS // 4) // (BITS // 2)
    return np.asarray(np.bitwise_count(a ^ b) <= allowed)
