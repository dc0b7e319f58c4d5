"""Families of bit masks such that two hashes that differ in few bits agree in all bits of at least one mask.

The 64 bits are divided into blocks. Two hashes within the distance d differ in at most d blocks, so a family of keys
(sets of blocks) suffices when any d blocks leave at least one key untouched. All sets of n - d of n blocks suffice
(Norouzi et al. 2014, 1307.2982); with fewer blocks a key, far fewer keys do: such a family is the complement of a
covering design (Gordon, Kuperberg and Patashnik 1995, "New constructions for covering designs"). The number of hashes
decides between few keys of few bits and many keys of many bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from math import comb

BITS = 64
# Perceptual hashes of images are not uniform. Keys of 21 bits of 173,301 icons agree 26 times as often as those of
# uniform hashes, and keys of 26 bits 230 times, mostly for similar drawings, which no key can separate. Icons are an
# extreme case; this constant is somewhat above the first figure.
CROWDED = 40.0


@dataclass(frozen=True)
class Family:
    """Family of `keys` keys, each a set of `size` of the `blocks` blocks; `made` creates the keys."""

    blocks: int
    size: int
    keys: int
    made: Callable[[], Iterable[Collection[int]]]


def masks(distance: int, hashes: int, compare: float = 1.0) -> Iterator[int]:
    """Return the bit masks of the cheapest family for `hashes` hashes within `distance` bits.

    `compare`: the cost of comparing two hashes, in units of the cost of one hash for one mask.
    """
    best = min(families(distance), key=lambda family: _cost(family, hashes, compare))
    bounds = [round(n * BITS / best.blocks) for n in range(best.blocks + 1)]
    parts = [(1 << stop) - (1 << start) for start, stop in pairwise(bounds)]
    return (sum(parts[block] for block in key) for key in best.made())


def _cost(family: Family, hashes: int, compare: float) -> float:
    """Cost of a family, in units of the cost of one hash for one key, with as many agreeing pairs as images have."""
    bits = BITS * family.size / family.blocks
    return family.keys * (hashes + compare * CROWDED * hashes**2 / 2 ** (bits + 1))


def families(distance: int) -> Iterator[Family]:
    """All families known for this distance."""
    for blocks in range(distance + 1, BITS + 1):
        size = blocks - distance
        yield Family(blocks, size, comb(blocks, size), partial(combinations, range(blocks), size))
    for blocks, digits in _DESIGNS.get(distance, ()):
        yield _family_of(blocks, _keys_of(digits))
    for blocks, digits in _SHIFTED.get(distance, ()):
        bases = _keys_of(digits)
        shifts = (frozenset((block + by) % blocks for block in base) for base in bases for by in range(blocks))
        yield _family_of(blocks, list(dict.fromkeys(shifts)))


def _family_of(blocks: int, keys: list[frozenset[int]]) -> Family:
    return Family(blocks, len(keys[0]), len(keys), lambda: keys)


def _keys_of(digits: str) -> list[frozenset[int]]:
    return [frozenset(int(digit, 16) for digit in key) for key in digits.split()]


# distance -> (blocks, keys with one hexadecimal digit a block).
_DESIGNS = {
    4: [
        (9, "012 345 678 036 147 258 048 156 237 057 138 246"),  # lines of the affine plane of 9 points
        # Blocks are the edges of the complete graph of 5 points; keys are its 5 stars and its 15 squares.
        (10, "0123 0157 0168 0247 0269 0348 0359 0456 1245 1289 1346 1379 1478 2356 2378 2579 3689 4589 4679 5678"),
    ]
}
# The same for families that contain all shifts of a key modulo the number of blocks. Found by exhaustive search.
_SHIFTED = {
    2: [(5, "02"), (6, "014")],
    3: [(6, "02"), (8, "014"), (11, "01269"), (13, "012467")],
    4: [(10, "025"), (13, "0125"), (14, "013478 01357c"), (11, "01248 01368 01246")],
    5: [(9, "03"), (14, "0248"), (12, "0137 0129 0369")],
    6: [(14, "029"), (11, "016 014 024")],
    7: [(10, "04 02")],
}
