"""Bits of 64-bit hashes, in batches that stay in a core's cache: rotation, and the permutation that sorts by a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from curation.filters.covering import BITS

BATCH = 1 << 15  # hashes worked on at once: temporary arrays stay in a core's cache

Array = np.ndarray[Any, Any]  # of hashes: uint64


def in_batches(hashes: Array) -> Iterator[Array]:
    """Yield views of at most `BATCH` hashes each."""
    return (hashes[start : start + BATCH] for start in range(0, len(hashes), BATCH))


def rotate_mask(mask: int, turn: int) -> int:
    """Rotate the bits of a mask to the left."""
    return (mask << turn | mask >> (BITS - turn)) & ((1 << BITS) - 1)


def rotate_hashes(hashes: Array, turn: int) -> Array:
    """Rotate the bits of hashes to the left, as `rotate_mask` does for a mask."""
    return hashes << np.uint64(turn) | hashes >> np.uint64(BITS - turn) if turn % BITS else hashes


def leading_bits(mask: int) -> int:
    """Return the number of leading bits that are set."""
    return BITS - (~mask & ((1 << BITS) - 1)).bit_length()


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
        """The mask of the moved bits."""
        return (1 << BITS) - (1 << (BITS - self.mask.bit_count()))

    def moved(self, hashes: Array) -> Array:
        """Move the mask's bits to the top."""
        return _shifted(hashes, _moves(self.mask))

    def back(self, moved: Array) -> Array:
        """Undo `moved`."""
        moves = [((bits << up) if up > 0 else (bits >> -up), -up) for bits, up in _moves(self.mask)]
        return _shifted(moved, moves)


@lru_cache(maxsize=1 << 10)  # a search asks for the same 10 to 120 masks at every piece of its hashes
def _moves(mask: int) -> list[tuple[int, int]]:
    """Return (bits, shift to the left) for each group of bits that move equally far: at least a block at a time."""
    moves: dict[int, int] = {}
    low, high = 0, BITS - mask.bit_count()  # targets of the next bit outside and inside the mask
    for bit in range(BITS):
        chosen = mask >> bit & 1
        up = (high if chosen else low) - bit
        moves[up] = moves.get(up, 0) | 1 << bit
        low, high = low + 1 - chosen, high + chosen
    return [(bits, up) for up, bits in moves.items()]


def _shifted(hashes: Array, moves: Sequence[tuple[int, int]]) -> Array:
    out = np.empty_like(hashes)
    for rows, into in zip(in_batches(hashes), in_batches(out), strict=True):
        into[:] = 0
        for bits, up in moves:
            part = rows & np.uint64(bits)
            into |= part << np.uint64(up) if up > 0 else part >> np.uint64(-up)
    return out
