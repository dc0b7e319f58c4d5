"""A reader for the members of many samples of one shard, in order, at the offsets that the index records.

Neighbouring samples share one request of at most `READ_BYTES` plus one sample; the next request is under way while the
caller uses one. If the members of different samples are interleaved (see `tar_samples`), the shard is copied to local
disk once and every member is read from the copy. Memory: three requests. Cost: no Python per sample or member, but for
interleaved ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.core.parallel import map_ordered
from curation.core.types import ShardRef
from curation.shards.tar_blocks import BLOCK, Integers, blocks_of, concatenated_ranges
from curation.shards.tar_spool import Spool
from curation.storage.store import Store

READ_BYTES = 8 << 20  # larger blocks leave the allocator's cache: mapping them costs 3 times the CPU of the read
GAP_BYTES = 256 << 10  # reading over a gap this small costs less than another request


@dataclass(frozen=True)
class SampleRanges:
    """Where the samples of a shard and their members are; in bytes from its start.

    offsets, lengths: of each sample from its first header to its last padding, [N]. first: of each sample its first
    member, and the number of all members, [N + 1]. member_offsets, member_lengths: of each member's data, [M].
    """

    offsets: Integers
    lengths: Integers
    first: Integers
    member_offsets: Integers
    member_lengths: Integers

    @classmethod
    def of_index(cls, index: pa.Table) -> SampleRanges:
        """Return those of an index table (`unit_reader.INDEX_SCHEMA`)."""
        members = index.column("members").combine_chunks()
        parts, first = members.flatten(), members.offsets.to_numpy().astype(np.int64)
        offsets, lengths = (index.column(name).to_numpy() for name in ("offset", "length"))
        member_offsets, member_lengths = (parts.field(name).to_numpy() for name in ("offset", "length"))
        return cls(offsets, lengths, first - first[0], member_offsets, member_lengths)

    def members(self, rows: Integers) -> Integers:
        """Return the members of these samples, in order."""
        return concatenated_ranges(self.first[rows], self.first[rows + 1] - self.first[rows])


class MemberBatch(NamedTuple):
    """Members of samples `rows[start:stop]` of a request: the data of member n is at `data[positions[n]:]`.

    Positions are multiples of 512, and members are padded to 512 bytes; what the padding holds is undefined.
    """

    start: int
    stop: int
    data: bytes
    positions: Integers


class MemberReader:
    """Reads samples of one shard."""

    def __init__(self, store: Store, shard: ShardRef, ranges: SampleRanges) -> None:
        self.store, self.shard, self.ranges = store, shard, ranges
        self._spool: Spool | None = None

    def read(self, rows: Integers) -> Iterator[MemberBatch]:
        """Yield the members of these samples, which must ascend, in batches. Raises `StoreError`."""
        key, size, etag = self.shard
        if self.is_interleaved:
            if self._spool is None:
                self._spool = Spool(self.store.blocks(key, size, etag))
            yield from self._scattered(rows, self._spool)
            return

        def request(some: tuple[int, int]) -> MemberBatch:
            start, stop = some
            samples, found = rows[start:stop], self.ranges
            begin, end = int(found.offsets[samples[0]]), int((found.offsets + found.lengths)[samples[-1]])
            data = self.store.get_range(key, begin, end - begin, etag)
            return MemberBatch(start, stop, data, found.member_offsets[found.members(samples)] - begin)

        yield from map_ordered(request, self._requests(rows), threads=1)

    def close(self) -> None:
        """Delete the local copy."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    @cached_property
    def is_interleaved(self) -> bool:
        """Whether byte ranges of samples overlap. Such shards have at most `MAX_INTERLEAVED` bytes."""
        found = self.ranges
        filled = found.first[1:] > found.first[:-1]
        ends = np.maximum.accumulate(np.where(filled, found.offsets + found.lengths, 0))
        return bool((filled[1:] & (found.offsets[1:] < ends[:-1])).any())

    def _requests(self, rows: Integers) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of the rows of each request."""
        begins = self.ranges.offsets[rows]
        ends = begins + self.ranges.lengths[rows]
        gaps = np.flatnonzero(begins[1:] - ends[:-1] > GAP_BYTES) + 1
        return _cut([*gaps.tolist(), len(rows)], begins, ends)

    def _scattered(self, rows: Integers, spool: Spool) -> Iterator[MemberBatch]:
        """Read the members one by one, into batches as large as a request."""
        found = self.ranges
        padded = blocks_of(found.member_lengths) * BLOCK
        bounds = np.concatenate([[0], np.cumsum(padded)])
        sizes = bounds[found.first[rows + 1]] - bounds[found.first[rows]]
        ends = np.cumsum(sizes)
        for start, stop in _cut([len(rows)], ends - sizes, ends):
            members = found.members(rows[start:stop])
            offsets, lengths = found.member_offsets[members].tolist(), found.member_lengths[members].tolist()
            pieces = (
                spool.read(offset, length).ljust(-(-length // BLOCK) * BLOCK, b"\0")
                for offset, length in zip(offsets, lengths, strict=True)
            )
            yield MemberBatch(start, stop, b"".join(pieces), np.cumsum(padded[members]) - padded[members])


def _cut(stops: list[int], begins: Integers, ends: Integers) -> Iterator[tuple[int, int]]:
    """Cut rows at `stops`, and where a piece would have more than `READ_BYTES`; a row alone may have more."""
    start = 0
    for last in stops:
        while start < last:
            most = int(np.searchsorted(ends[start:last], begins[start] + READ_BYTES, side="right"))
            stop = start + max(1, most)
            yield start, stop
            start = stop
