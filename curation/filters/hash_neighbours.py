"""Pairs of neighbours in sorted hashes that agree in a mask's bits and differ in few others.

Each row is compared with its successors as long as they agree in the mask: there is no lookup, and no candidate becomes
a row of a table. Cost: 2 to 4 ns a comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from curation.filters.mask_bits import Array

PAIRS = 1 << 20  # pairs of one mask in a batch, at least
DENSE = 8  # where more than 1 in DENSE rows is compared, comparing all is as cheap as selecting these

HashPairs = Iterator[tuple[Array, Array]]  # batches of pairs: the first and the second hashes, uint64 `[N]` each


def agreeing_pairs(batches: Iterable[Array], mask: int, distance: int) -> HashPairs:
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
    """Yield the same rows in batches, with rows that agree in `bits` in one batch."""
    held = np.empty(0, np.uint64)
    for batch in batches:
        rows = np.concatenate([held, batch])
        cut = _last_group(rows, bits)
        yield rows[:cut]
        held = rows[cut:]
    yield held


def _last_group(rows: Array, bits: np.uint64) -> int:
    """Return the index of the first row of the group that agrees with the last row; mostly among the last few."""
    for some in (64, len(rows)):
        others = np.flatnonzero((rows[-some:] ^ rows[-1]) & bits)
        if len(others):
            return max(0, len(rows) - some) + int(others[-1]) + 1
    return 0


def in_large_batches(found: HashPairs) -> HashPairs:
    """Concatenate pairs to batches of at least `PAIRS`, since a single step yields few."""
    held: list[tuple[Array, Array]] = []
    pending = 0
    for pair in found:
        if len(pair[0]):
            held.append(pair)
            pending += len(pair[0])
        if pending >= PAIRS:
            yield _concatenated(held)
            held, pending = [], 0
    if held:
        yield _concatenated(held)


def _concatenated(some: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    a, b = (np.concatenate(side) for side in zip(*some, strict=True))
    return a, b
