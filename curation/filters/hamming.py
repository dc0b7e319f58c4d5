"""All pairs of 64-bit hashes that differ in few bits: what `near_duplicates` and `decontaminate` ask for.

Two hashes within the distance agree wholly in the bits of one mask at least (`covering`). For each mask the hashes that
agree in it are brought together by sorting, and each is compared with those after it for as long as they agree: nothing
is looked up, and no candidate becomes a row of a table. In memory the mask's bits are moved to the top and the numbers
sorted as they are; out of core DuckDB sorts, and the rows stream.

Cost, measured with 10 million hashes on a busy machine with AVX-512: some 25 ns of CPU a hash and mask in memory, 160
ns out of core; and 2 to 4 ns a comparison.
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
from curation.filters.repeats import IN_MEMORY, among, different, ordered, repeated
from curation.filters.vectors import stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

MOST_DISTANCE = 12  # beyond it, most pictures are linked by some other
BATCH = 1 << 15  # hashes compared at once, so that what is made of them stays in a core's cache
PIECE = 1 << 17  # hashes brought together at once, at least
LEAD = 5  # bits of a mask that are to be the first: groups of hashes that agree in these are small enough for a cache
PAIRS = 1 << 20  # handed out at once, at least, of one mask
DENSE = 8  # where more than one in so many is compared, comparing all is as cheap as picking these out

Array = np.ndarray[Any, Any]  # of hashes: uint64
IndexPairs = Iterator[tuple[Array, Array]]


class Hashes(Protocol):
    """Hashes, all different."""

    compare: float  # what a comparison costs, where bringing a hash to those that agree with it costs 1

    def __len__(self) -> int: ...

    def order(self, masks: Iterable[int]) -> Iterator[int]:
        """The masks in the order in which `near` is to be asked about them: before the next one is taken."""
        ...

    def near(self, mask: int, distance: int) -> IndexPairs:
        """Pairs within the distance that agree in the mask's bits, each once."""
        ...


class InMemory:
    """In a sorted array, from which a piece at a time is brought together by the mask's bits, while it is in a core's
    cache: so a hash costs the same, however many there are. That takes an order in which bits of the mask are first;
    others are had by turning all bits around, and sorting again, for several masks at once.
    """

    compare = 0.12

    def __init__(self, hashes: Array) -> None:
        self.hashes, self._turned, self._turn = hashes, hashes, 0

    def __len__(self) -> int:
        return len(self.hashes)

    def order(self, masks: Iterable[int]) -> Iterator[int]:
        """The masks, those one after the other that go with one turn."""
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
        """All hashes with the mask's bits moved to the top, in order."""
        for start, stop in pairwise(self._pieces(top.mask)):
            moved = top.moved(self._turned[start:stop])
            moved.sort()
            yield from _batches(moved)

    def _pieces(self, mask: int) -> Sequence[int]:
        """Where pieces begin and end: not where hashes agree in the mask's bits, as far as these are the first."""
        lead = min(_leading(mask), 12)
        values = [value << (BITS - lead) for value in range(1, 1 << lead)]
        ends = [*np.searchsorted(self._turned, np.array(values, np.uint64)).tolist(), len(self._turned)]
        pieces = [0]
        for end, following in pairwise([*ends, 0]):
            if end - pieces[-1] >= PIECE or not following:
                pieces.append(end)
        return pieces


def turned(mask: int, turn: int) -> int:
    """A mask with its bits turned around to the left."""
    return (mask << turn | mask >> (BITS - turn)) & ((1 << BITS) - 1)


def _rotated(hashes: Array, turn: int) -> Array:
    """Hashes with their bits turned around to the left, as `turned` does it for a mask."""
    return hashes << np.uint64(turn) | hashes >> np.uint64(BITS - turn) if turn % BITS else hashes


def _leading(mask: int) -> int:
    """How many of the first bits are set."""
    return BITS - (~mask & ((1 << BITS) - 1)).bit_length()


class OnDisk:
    """In a table's column `h`, BIGINT, which DuckDB sorts within its memory."""

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
    """Every pair of one of `ours` and one of `theirs` within the distance, once; both SQL of hashes `h`, BIGINT.

    Of all pairs of both together, those that have one of each: what it costs is that of so many hashes.
    """
    counted = f"SELECT (SELECT count(*) FROM ({ours})) + (SELECT count(*) FROM ({theirs}))"
    ((count,),) = db.execute(counted).fetchall()
    return (_between if count <= IN_MEMORY else _between_on_disk)(db, ours, theirs, distance)


def _between(db: duckdb.DuckDBPyConnection, ours: str, theirs: str, distance: int) -> IndexPairs:
    sides = [different(ordered(db, query)) for query in (ours, theirs)]
    both = np.concatenate(sides)
    both.sort()
    same = repeated(both)
    yield same, same
    for a, b in pairs(InMemory(different(both)), distance):
        for one, other in ((a, b), (b, a)):
            at = np.flatnonzero(among(one, sides[0]) & among(other, sides[1]))
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
    """Every pair within the distance, once."""
    earlier: list[int] = []
    for mask in hashes.order(masks(distance, len(hashes), hashes.compare)) if distance else ():
        for a, b in hashes.near(mask, distance):
            differ, fresh = a ^ b, np.ones(len(a), bool)
            for one in earlier:  # which found them already, if they agree there
                fresh &= differ & np.uint64(one) != 0
            yield a[fresh], b[fresh]
        earlier.append(mask)


def alike(a: Array, b: Array, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pairs of perceptual hashes differ in at most `distance` bits, in proportion to what the hashes tell.

    Half of the bits of a hash are set, unless frequencies are missing: a symmetric drawing lacks half of them or more,
    and their bits are 0 in every such drawing. A minus, a plus and an arrow, with 9 bits set, differ in 3 bits. So of
    two hashes that have fewer than 32 bits set, the distance is the same share of those: 1 bit of 4 for 9 set bits.
    """
    told = np.minimum(np.bitwise_count(a), np.bitwise_count(b)).astype(np.int32)
    allowed = (distance * np.minimum(told, BITS // 2) + BITS // 4) // (BITS // 2)
    return np.asarray(np.bitwise_count(a ^ b) <= allowed)


def signed(mask: int) -> int:
    """The BIGINT of these 64 bits."""
    return mask - (1 << BITS) if mask >> (BITS - 1) else mask


@dataclass(frozen=True)
class TopBits:
    """Hashes with the mask's bits moved to the top: as numbers in order, those that agree in them are neighbours.

    How many bits two hashes differ in stays as it is.
    """

    mask: int

    @property
    def bits(self) -> int:
        """Where the mask's bits are, once moved."""
        return (1 << BITS) - (1 << (BITS - self.mask.bit_count()))

    def moved(self, hashes: Array) -> Array:
        return _shifted(hashes, self._moves())

    def back(self, moved: Array) -> Array:
        moves = [((bits << up) if up > 0 else (bits >> -up), -up) for bits, up in self._moves()]
        return _shifted(moved, moves)

    def _moves(self) -> list[tuple[int, int]]:
        """(bits, how far they go up): those that go equally far go together, so a block or more at a time."""
        moves: dict[int, int] = {}
        low, high = 0, BITS - self.mask.bit_count()  # where the next bit goes, of the others and of the mask
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
    """Pairs within the distance that agree in the mask's bits. In the batches, hashes that agree are neighbours."""
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
    """The same rows, parted where the bits change: no two that agree are in different batches."""
    held = np.empty(0, np.uint64)
    for batch in batches:
        rows = np.concatenate([held, batch])
        cut = _last_group(rows, bits)
        yield rows[:cut]
        held = rows[cut:]
    yield held


def _last_group(rows: Array, bits: np.uint64) -> int:
    """Where those begin that agree with the last row: mostly among the last few."""
    for some in (64, len(rows)):
        others = np.flatnonzero((rows[-some:] ^ rows[-1]) & bits)
        if len(others):
            return max(0, len(rows) - some) + int(others[-1]) + 1
    return 0


def _batches(hashes: Array) -> Iterator[Array]:
    return (hashes[start : start + BATCH] for start in range(0, len(hashes), BATCH))


def _gathered(found: IndexPairs) -> IndexPairs:
    """The same pairs by the million: of each batch and step there are few."""
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
