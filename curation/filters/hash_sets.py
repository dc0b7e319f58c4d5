"""Sets of 64-bit hashes, in memory and out of core, that yield the pairs which agree in a mask's bits.

In memory, the mask's bits are moved to the top and the numbers are sorted; out of core, DuckDB sorts and the rows
stream. Cost, measured with 10 million hashes on a busy machine with AVX-512: about 25 ns of CPU for each hash and mask
in memory, 160 ns out of core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from curation.filters.covering import BITS
from curation.filters.hash_neighbours import HashPairs, agreeing_pairs, in_large_batches
from curation.filters.mask_bits import Array, TopBits, in_batches, leading_bits, rotate_hashes, rotate_mask, signed
from curation.filters.vectors import stream

if TYPE_CHECKING:
    import duckdb

PIECE = 1 << 17  # hashes sorted at once, at least
LEAD = 5  # leading bits of a mask: groups of hashes that agree in these fit into a cache


class Hashes(Protocol):
    """A set of different hashes that yields pairs."""

    compare: float  # cost of a comparison, in units of the cost of sorting one hash by one mask

    def __len__(self) -> int: ...

    def mask_order(self, masks: Iterable[int]) -> Iterator[int]:
        """Yield the masks in the order in which `agreeing_pairs` must be called, each before the next mask is taken."""
        ...

    def agreeing_pairs(self, mask: int, distance: int) -> HashPairs:
        """Yield the pairs within the distance that agree in the mask's bits, each once."""
        ...


class InMemory:
    """Hashes in a sorted array, of which one piece at a time is sorted by the mask's bits inside a core's cache.

    The cost of a hash thus does not depend on the number of hashes. The array's order must begin with bits of the mask;
    for other masks all hashes are rotated and sorted again, once for several masks.
    """

    compare = 0.12

    def __init__(self, hashes: Array) -> None:
        self.hashes, self._rotated_hashes, self._turn = hashes, hashes, 0

    def __len__(self) -> int:
        return len(self.hashes)

    def mask_order(self, masks: Iterable[int]) -> Iterator[int]:
        """Yield the masks grouped by the rotation that serves them."""
        left = list(masks)
        while left:
            serve = {
                turn: [mask for mask in left if leading_bits(rotate_mask(mask, turn)) >= LEAD] for turn in range(BITS)
            }
            turn = max(serve, key=lambda turn: len(serve[turn]))
            some = serve[turn] or left[:1]
            for mask in some:
                self._rotate_by(turn if serve[turn] else BITS - mask.bit_length())
                yield mask
            left = [mask for mask in left if mask not in some]

    def agreeing_pairs(self, mask: int, distance: int) -> HashPairs:
        top = TopBits(rotate_mask(mask, self._turn))
        for a, b in in_large_batches(agreeing_pairs(self._grouped(top), top.bits, distance)):
            yield rotate_hashes(top.back(a), BITS - self._turn), rotate_hashes(top.back(b), BITS - self._turn)

    def _rotate_by(self, turn: int) -> None:
        if turn == self._turn:
            return
        self._turn, self._rotated_hashes = turn, self.hashes
        if turn:
            for rows, into in zip(in_batches(self.hashes), in_batches(self._spare), strict=True):
                into[:] = rotate_hashes(rows, turn)
            self._spare.sort()
            self._rotated_hashes = self._spare

    @cached_property
    def _spare(self) -> Array:
        return np.empty_like(self.hashes)

    def _grouped(self, top: TopBits) -> Iterator[Array]:
        """Yield all hashes with the mask's bits moved to the top, sorted."""
        for start, stop in pairwise(self._pieces(top.mask)):
            moved = top.moved(self._rotated_hashes[start:stop])
            moved.sort()
            yield from in_batches(moved)

    def _pieces(self, mask: int) -> Sequence[int]:
        """Return the bounds of the pieces; hashes that agree in the mask's leading bits are in one piece."""
        lead = min(leading_bits(mask), 12)
        values = [value << (BITS - lead) for value in range(1, 1 << lead)]
        ends = [*np.searchsorted(self._rotated_hashes, np.array(values, np.uint64)).tolist(), len(self._rotated_hashes)]
        pieces = [0]
        for end, following in pairwise([*ends, 0]):
            if end - pieces[-1] >= PIECE or not following:
                pieces.append(end)
        return pieces


class OnDisk:
    """Hashes in the BIGINT column `h` of a table, which DuckDB sorts out of core."""

    compare = 0.015

    def __init__(self, db: duckdb.DuckDBPyConnection, table: str) -> None:
        self.db, self.table = db, table

    def __len__(self) -> int:
        ((count,),) = self.db.execute(f"SELECT count(*) FROM {self.table}").fetchall()
        return int(count)

    def mask_order(self, masks: Iterable[int]) -> Iterator[int]:
        yield from masks

    def agreeing_pairs(self, mask: int, distance: int) -> HashPairs:
        query = f"SELECT h FROM {self.table} ORDER BY h & {signed(mask)}"
        batches = (batch.column(0).to_numpy().view(np.uint64) for batch in stream(self.db, query))
        return in_large_batches(agreeing_pairs(batches, mask, distance))
