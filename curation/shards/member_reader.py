"""A reader for the members of many samples of one shard, in order, at the offsets that the index records.

Neighbouring samples share one request of at most `READ_BYTES` plus one sample. If the members of different samples are
interleaved (see `tar_samples`), the shard is copied to local disk once and every member is read from the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from curation.core.types import ShardRef
from curation.shards.tar_spool import Spool
from curation.storage.store import Store

READ_BYTES = 16 << 20
GAP_BYTES = 256 << 10  # reading over a gap this small costs less than another request

Members = list[tuple[str, bytes]]  # (extension, bytes)


class MemberReader:
    """Reads samples of one shard by their index rows: offset, length, members (extension, offset, length); in bytes."""

    def __init__(
        self,
        store: Store,
        shard: ShardRef,
        offsets: Sequence[int],
        lengths: Sequence[int],
        members: Sequence[Sequence[Mapping[str, Any]]],
    ) -> None:
        self.store, self.shard = store, shard
        self.offsets, self.lengths, self.members = offsets, lengths, members
        self._spool: Spool | None = None

    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, Members]]:
        """Yield (row, members) for these rows, which must ascend. Raises `StoreError`."""
        key, size, etag = self.shard
        if self.is_interleaved:
            if self._spool is None:
                self._spool = Spool(self.store.blocks(key, size, etag))
            for row in rows:
                yield row, self._members(row, self._spool.read)
            return
        for start, stop, some in self._ranges(rows):
            read = _within(memoryview(self.store.get_range(key, start, stop - start, etag)), start)
            for row in some:
                yield row, self._members(row, read)

    def close(self) -> None:
        """Delete the local copy."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    @cached_property
    def is_interleaved(self) -> bool:
        """Whether byte ranges of samples overlap. Such shards have at most `MAX_INTERLEAVED` bytes."""
        end = 0
        for offset, length, members in zip(self.offsets, self.lengths, self.members, strict=True):
            if members and offset < end:
                return True
            end = max(end, offset + length if members else 0)
        return False

    def _members(self, row: int, read: Callable[[int, int], bytes]) -> Members:
        return [(part["extension"], read(part["offset"], part["length"])) for part in self.members[row]]

    def _ranges(self, rows: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (start, stop, rows) of each request."""
        start, stop, some = 0, 0, list[int]()
        for row in rows:
            begin, end = self.offsets[row], self.offsets[row] + self.lengths[row]
            if some and (begin - stop > GAP_BYTES or end - start > READ_BYTES):
                yield start, stop, some
                some = []
            if not some:
                start = begin
            stop = end
            some.append(row)
        yield start, stop, some


def _within(data: memoryview, start: int) -> Callable[[int, int], bytes]:
    return lambda offset, length: bytes(data[offset - start : offset - start + length])
