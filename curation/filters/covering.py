"""Sets of bits, in one of which any two hashes that differ in few bits agree wholly.

The 64 bits are cut into blocks. Two hashes within the distance d differ in at most d of them, so a family of keys (sets
of blocks) serves if any d blocks leave one key untouched. All sets of n - d of n blocks do (Norouzi et al. 2014,
1307.2982); far fewer do where each has fewer blocks: such a family is the complement of a covering design (Gordon,
Kuperberg and Patashnik 1995, "New constructions for covering designs"). Few keys of few bits or many of many: it is
chosen by the number of hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from math import comb

BITS = 64
# Pictures are not spread evenly over the hashes. Keys of 21 bits of 173,301 icons agree 26 times as often as those of
# even hashes, keys of 26 bits 230 times, most of it in drawings that are alike, which no key could part. Icons are an
# extreme: somewhat more than the first.
CROWDED = 40.0


@dataclass(frozen=True)
class Family:
    """So many keys, each of so many of the blocks."""

    blocks: int
    size: int
    keys: int
    made: Callable[[], Iterable[Collection[int]]]


def masks(distance: int, hashes: int, compare: float = 1.0) -> Iterator[int]:
    """The masks of those keys that cost least, where a comparison costs `compare` times what a hash does for a mask."""
    best = min(families(distance), key=lambda family: _cost(family, hashes, compare))
    bounds = [round(n * BITS / best.blocks) for n in range(best.blocks + 1)]
    parts = [(1 << stop) - (1 << start) for start, stop in pairwise(bounds)]
    return (sum(parts[block] for block in key) for key in best.made())


def _cost(family: Family, hashes: int, compare: float) -> float:
    """Of all keys, in what one hash costs for one key; of pairs, as many agree in a key as do in pictures."""
    bits = BITS * family.size / family.blocks
    return family.keys * (hashes + compare * CROWDED * hashes**2 / 2 ** (bits + 1))


def families(distance: int) -> Iterator[Family]:
    """Those known for this distance."""
    for blocks in range(distance + 1, BITS + 1):
        size = blocks - distance
        yield Family(blocks, size, comb(blocks, size), partial(combinations, range(blocks), size))
    for blocks, told in _DESIGNS.get(distance, ()):
        yield _known(blocks, _sets(told))
    for blocks, told in _SHIFTED.get(distance, ()):
        shifts = (frozenset((block + by) % blocks for block in base) for base in _sets(told) for by in range(blocks))
        yield _known(blocks, list(dict.fromkeys(shifts)))


def _known(blocks: int, keys: list[frozenset[int]]) -> Family:
    return Family(blocks, len(keys[0]), len(keys), lambda: keys)


def _sets(told: str) -> list[frozenset[int]]:
    return [frozenset(int(digit, 16) for digit in key) for key in told.split()]


# distance -> (blocks, keys with a hexadecimal digit a block).
_DESIGNS = {
    4: [
        (9, "012 345 678 036 147 258 048 156 237 057 138 246"),  # the lines of the affine plane of 9 points
        # Blocks are the edges of the complete graph of 5 points, keys its 5 stars and its 15 squares.
        (10, "0123 0157 0168 0247 0269 0348 0359 0456 1245 1289 1346 1379 1478 2356 2378 2579 3689 4589 4679 5678"),
    ]
}
# The same, with keys of which all shifts, modulo the number of blocks, are keys as well. Found by trying all.
_SHIFTED = {
    2: [(5, "02"), (6, "014")],
    3: [(6, "02"), (8, "014"), (11, "01269"), (13, "012467")],
    4: [(10, "025"), (13, "0125"), (14, "013478 01357c"), (11, "01248 01368 01246")],
    5: [(9, "03"), (14, "0248"), (12, "0137 0129 0369")],
    6: [(14, "029"), (11, "016 014 024")],
    7: [(10, "04 02")],
}
