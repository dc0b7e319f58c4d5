"""All pairs of 64-bit hashes that differ in few bits, for `near_duplicates` and `decontaminate`.

Two hashes within the distance agree in all bits of at least one mask (`covering`). For each mask, sorting brings the
hashes that agree in it together, and each is compared with its successors as long as they agree: there is no lookup,
and no candidate becomes a row of a table. In memory, the mask's bits are moved to the top and the numbers are sorted;
out of core, DuckDB sorts and the rows stream. It is our own code because no library finds all pairs exactly: FAISS's
binary indexes answer queries one by one and hold all hashes in memory.

Cost, measured with 10 million hashes on a busy machine with AVX-512: about 25 ns of CPU a hash and mask in memory, 160
ns out of core, and 2 to 4 ns a comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from curation.filters.covering import BITS, masks
from curation.filters.sorted_values import IN_MEMORY, contained_in, distinct_values, read_sorted, repeated_values
from curation.filters.vectors import stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

MOST_DISTANCE = 12  # at more, most images are near some other image
BATCH = 1 << 15  # hashes compared at once: temporary arrays stay in a core's cache
PIECE = 1 << 17  # hashes sorted at once, at least
LEAD = 5  # leading bits of a mask: groups of hashes that agree in these fit into a cache
PAIRS = 1 << 20  # pairs of one mask in a batch, at least
DENSE = 8  # where more than 1 in DENSE rows is compared, comparing all is as cheap as selecting these

Array = np.ndarray[Any, Any]  # of hashes: uint64
IndexPairs = Iterator[tuple[Array, Array]]


class Hashes(Protocol):
    """A set of different hashes in which pairs are found."""

    compare: float  # cost of a comparison, in units of the cost of sorting one hash by one mask

    def __len__(self) -> int: ...

    def order(self, masks: Iterable[int]) -> Iterator[int]:
        """Yield the masks in the order in which `near` must be called, each before the next mask is taken."""
        ...

    def near(self, mask: int, distance: int) -> IndexPairs:
        """Yield the pairs within the distance that agree in the mask's bits, each once."""
        ...


class InMemory:
    """Hashes in a sorted array, of which one piece at a time is sorted by the mask's bits inside a core's cache.

    So a hash costs the same whatever their number. The array's order must begin with bits of the mask; for other masks
    all hashes are rotated and sorted again, once for several masks.
    """

    compare = 0.12

    def __init__(self, hashes: Array) -> None:
        self.hashes, self._turned, self._turn = hashes, hashes, 0

    def __len__(self) -> int:
        return len(self.hashes)

    def order(self, masks: Iterable[int]) -> Iterator[int]:
        """Yield the masks grouped by the rotation that serves them."""
        left = list(masks)
        while left:
            serve = {turn: [mask for mask in left if _leading(turned(mask, turn)) >= LEAD] for turn in range(BITS)}
            turn = max(serve, key=lambda turn: len(serve[turn]))
            some = serve[turn] or left[:1]
            for mask in some:
                self._turn_by(turn if serve[turn] else BITS - mask.bit_length())
                yield mask
            left = [mask for mask in left if mask not in some]

    def near(self, mask: int, distance: int) -> IndexPairs:
        top = TopBits(turned(mask, self._turn))
        for a, b in _gathered(near(self._together(top), top.bits, distance)):
            yield _rotated(top.back(a), BITS - self._turn), _rotated(top.back(b), BITS - self._turn)

    def _turn_by(self, turn: int) -> None:
        if turn == self._turn:
            return
        self._turn, self._turned = turn, self.hashes
        if turn:
            for rows, into in zip(_batches(self.hashes), _batches(self._others), strict=True):
                into[:] = _rotated(rows, turn)
            self._others.sort()
            self._turned = self._others

    @cached_property
    def _others(self) -> Array:
        return np.empty_like(self.hashes)

    def _together(self, top: TopBits) -> Iterator[Array]:
        """Yield all hashes with the mask's bits moved to the top, sorted."""
        for start, stop in pairwise(self._pieces(top.mask)):
            moved = top.moved(self._turned[start:stop])
            moved.sort()
            yield from _batches(moved)

    def _pieces(self, mask: int) -> Sequence[int]:
        """Bounds of the pieces; hashes that agree in the mask's leading bits are in one piece."""
        lead = min(_leading(mask), 12)
        values = [value << (BITS - lead) for value in range(1, 1 << lead)]
        ends = [*np.searchsorted(self._turned, np.array(values, np.uint64)).tolist(), len(self._turned)]
        pieces = [0]
        for end, following in pairwise([*ends, 0]):
            if end - pieces[-1] >= PIECE or not following:
                pieces.append(end)
        return pieces


def turned(mask: int, turn: int) -> int:
    """Rotate the bits of a mask to the left."""
    return (mask << turn | mask >> (BITS - turn)) & ((1 << BITS) - 1)


def _rotated(hashes: Array, turn: int) -> Array:
    """Rotate the bits of hashes to the left, as `turned` does for a mask."""
    return hashes << np.uint64(turn) | hashes >> np.uint64(BITS - turn) if turn % BITS else hashes


def _leading(mask: int) -> int:
    """Number of leading bits that are set."""
    return BITS - (~mask & ((1 << BITS) - 1)).bit_length()


class OnDisk:
    """Hashes in the BIGINT column `h` of a table, which DuckDB sorts out of core."""

    compare = 0.015

    def __init__(self, db: duckdb.DuckDBPyConnection, table: str) -> None:
        self.db, self.table = db, table

    def __len__(self) -> int:
        ((count,),) = self.db.execute(f"SELECT count(*) FROM {self.table}").fetchall()
        return int(count)

    def order(self, masks: Iterable[int]) -> Iterator[int]:
        yield from masks

    def near(self, mask: int, distance: int) -> IndexPairs:
        query = f"SELECT h FROM {self.table} ORDER BY h & {signed(mask)}"
        batches = (batch.column(0).to_numpy().view(np.uint64) for batch in stream(self.db, query))
        return _gathered(near(batches, mask, distance))


def between(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> IndexPairs:
    """Yield every pair within `distance` of a hash of `ours` and one of `theirs`, once: batches of uint64 [N] each.

    `ours`, `theirs`: SQL that selects BIGINT hashes `h`. All pairs of both sets together are found and those with one
    hash of each set are kept, so the cost is that of the two sets together.
    """
    counted = f"SELECT (SELECT count(*) FROM ({ours})) + (SELECT count(*) FROM ({theirs}))"
    ((count,),) = db.execute(counted).fetchall()
    return (_between if count <= IN_MEMORY else _between_on_disk)(db, ours, theirs, distance)


def _between(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> IndexPairs:
    sides = [distinct_values(read_sorted(db, query)) for query in (ours, theirs)]
    both = np.concatenate(sides)
    both.sort()
    same = repeated_values(both)
    yield same, same
    for a, b in pairs(InMemory(distinct_values(both)), distance):
        for one, other in ((a, b), (b, a)):
            at = np.flatnonzero(contained_in(one, sides[0]) & contained_in(other, sides[1]))
            yield one[at], other[at]


def _between_on_disk(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> IndexPairs:
    both, found = "hamming_both", "hamming_found"
    db.execute(f"""
        CREATE OR REPLACE TABLE {both} AS SELECT h, bool_or(our) AS our, bool_or(NOT our) AS their
        FROM (SELECT h, true AS our FROM ({ours}) UNION ALL SELECT h, false FROM ({theirs})) GROUP BY h""")
    db.execute(f"CREATE OR REPLACE TABLE {found} AS SELECT h AS a, h AS b FROM {both} WHERE our AND their")
    for a, b in pairs(OnDisk(db, both), distance):
        one, other = (np.concatenate(side).view(np.int64) for side in ((a, b), (b, a)))
        insert(db, found, pa.table({"a": one, "b": other}))
    sided = f"SELECT a, b FROM {found} JOIN {both} x ON a = x.h JOIN {both} y ON b = y.h WHERE x.our AND y.their"
    for batch in stream(db, sided):
        a, b = (column.to_numpy().view(np.uint64) for column in batch.columns)
        yield a, b
    db.execute(f"DROP TABLE {both}; DROP TABLE {found}")


def pairs(hashes: Hashes, distance: int) -> IndexPairs:
    """Yield every pair of hashes within the distance, once: batches of uint64 [N] each."""
    earlier: list[int] = []
    for mask in hashes.order(masks(distance, len(hashes), hashes.compare)) if distance else ():
        for a, b in hashes.near(mask, distance):
            differ, fresh = a ^ b, np.ones(len(a), bool)
            for one in earlier:  # an earlier mask in which a pair agrees has yielded it
                fresh &= differ & np.uint64(one) != 0
            yield a[fresh], b[fresh]
        earlier.append(mask)


def alike(a: Array, b: Array, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each pair of perceptual hashes differs in few enough bits, bool [N]: `distance` bits, or fewer.

    Half of the bits of a hash are set, unless frequencies are absent: a symmetric drawing has at most half of them, and
    their bits are 0 in every such drawing. The hashes of a minus, a plus and an arrow, with 9 bits set, differ in 3
    bits. So where a hash has fewer than 32 bits set, the allowed distance shrinks in proportion: for 9 set bits, 1
    instead of 4.
    """
    informative = np.minimum(np.bitwise_count(a), np.bitwise_count(b)).astype(np.int32)
    allowed = (distance * np.minimum(informative, BITS // 2) + BITS // 4) // (BITS // 2)
    return np.asarray(np.bitwise_count(a ^ b) <= allowed)


def signed(mask: int) -> int:
    """Convert 64 bits to the BIGINT with the same bits."""
    return mask - (1 << BITS) if mask >> (BITS - 1) else mask


@dataclass(frozen=True)
class TopBits:
    """Permutation of bits that moves the mask's bits to the top.

    In the sorted permuted numbers, hashes that agree in the mask's bits are neighbours. The number of bits in which two
    hashes differ does not change.
    """

    mask: int

    @property
    def bits(self) -> int:
        """Mask of the moved bits."""
        return (1 << BITS) - (1 << (BITS - self.mask.bit_count()))

    def moved(self, hashes: Array) -> Array:
        return _shifted(hashes, self._moves())

    def back(self, moved: Array) -> Array:
        moves = [((bits << up) if up > 0 else (bits >> -up), -up) for bits, up in self._moves()]
        return _shifted(moved, moves)

    def _moves(self) -> list[tuple[int, int]]:
        """(bits, shift to the left) of each group of bits that move equally far: at least a block at a time."""
        moves: dict[int, int] = {}
        low, high = 0, BITS - self.mask.bit_count()  # targets of the next bit outside and inside the mask
        for bit in range(BITS):
            chosen = self.mask >> bit & 1
            up = (high if chosen else low) - bit
            moves[up] = moves.get(up, 0) | 1 << bit
            low, high = low + 1 - chosen, high + chosen
        return [(bits, up) for up, bits in moves.items()]


def _shifted(hashes: Array, moves: Sequence[tuple[int, int]]) -> Array:
    out = np.empty_like(hashes)
    for rows, into in zip(_batches(hashes), _batches(out), strict=True):
        into[:] = 0
        for bits, up in moves:
            part = rows & np.uint64(bits)
            into |= part << np.uint64(up) if up > 0 else part >> np.uint64(-up)
    return out


def near(batches: Iterable[Array], mask: int, distance: int) -> IndexPairs:
    """Yield the pairs within the distance that agree in the mask's bits; such hashes are neighbours in `batches`."""
    bits = np.uint64(mask)
    for rows in _whole(batches, bits):
        agree = np.zeros(len(rows), bool)  # row i with row i + 1; the last with none
        agree[:-1] = (rows[1:] ^ rows[:-1]) & bits == 0
        step, live = 1, agree[:-1]  # row i with row i + step
        while np.count_nonzero(live) * DENSE > len(rows):
            at = np.flatnonzero(live & (np.bitwise_count(rows[:-step] ^ rows[step:]) <= distance))
            yield rows[at], rows[at + step]
            live = live[:-1] & agree[step:-1]
            step += 1
        left = np.flatnonzero(live)
        while len(left):
            a, b = rows[left], rows[left + step]
            at = np.flatnonzero(np.bitwise_count(a ^ b) <= distance)
            yield a[at], b[at]
            left = left[np.flatnonzero(agree[left + step])]
            step += 1


def _whole(batches: Iterable[Array], bits: np.uint64) -> Iterator[Array]:
    """Yield the same rows in batches such that rows that agree in `bits` are in one batch."""
    held = np.empty(0, np.uint64)
    for batch in batches:
        rows = np.concatenate([held, batch])
        cut = _last_group(rows, bits)
        yield rows[:cut]
        held = rows[cut:]
    yield held


def _last_group(rows: Array, bits: np.uint64) -> int:
    """Index of the first row of the group that agrees with the last row; mostly among the last few."""
    for some in (64, len(rows)):
        others = np.flatnonzero((rows[-some:] ^ rows[-1]) & bits)
        if len(others):
            return max(0, len(rows) - some) + int(others[-1]) + 1
    return 0


def _batches(hashes: Array) -> Iterator[Array]:
    return (hashes[start : start + BATCH] for start in range(0, len(hashes), BATCH))


def _gathered(found: IndexPairs) -> IndexPairs:
    """Concatenate pairs to batches of at least `PAIRS`: a single step yields few."""
    held: list[tuple[Array, Array]] = []
    pending = 0
    for pair in found:
        if len(pair[0]):
            held.append(pair)
            pending += len(pair[0])
        if pending >= PAIRS:
            yield _joined(held)
            held, pending = [], 0
    if held:
        yield _joined(held)


def _joined(some: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    a, b = (np.concatenate(side) for side in zip(*some, strict=True))
    return a, b
