"""Read single samples by where they lie, as pages and comparisons need them: `[offset, offset + length)` of a shard.

A span is one ranged read. In a shard that is read by its index (see `tar`), a sample's members stand among those of
others, and a span can be most of the shard: spans of more than `DIRECT` bytes are read from copies of their shards on
local disk, of which `COPIES` are kept, so that many samples of one shard cost it once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from threading import Lock
from types import TracebackType

from curation.core.errors import TarError
from curation.shards.tar import END_BLOCKS, MAX_APART, TarSample, read_samples
from curation.shards.tar_spool import Spool
from curation.storage.store import Store

DIRECT = 16 << 20
COPIES = 4


class SampleReader:
    """Reads samples of one store. Use it in `with`, which removes the copies. For any number of threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = Lock()
        self._copies: OrderedDict[tuple[str, str], Spool] = OrderedDict()

    def read(self, key: str, etag: str, offset: int, length: int) -> TarSample:
        """The sample at this place. Raises `StoreError` where it is gone, `TarError` where there is none."""
        if length > DIRECT and self.store.size(key) <= MAX_APART:
            with self._lock:  # the copy may not go while it is read
                return _first(self._copy(key, etag).blocks(offset, offset + length), length)
        return _first(iter([self.store.get_range(key, offset, length, etag or None)]), length)

    def _copy(self, key: str, etag: str) -> Spool:
        found = self._copies.pop((key, etag), None)
        if found is None:
            found = Spool(self.store.blocks(key, self.store.size(key), etag or None))
        self._copies[key, etag] = found
        while len(self._copies) > COPIES:
            self._copies.popitem(last=False)[1].close()
        return found

    def close(self) -> None:
        while self._copies:
            self._copies.popitem()[1].close()

    def __enter__(self) -> SampleReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _first(blocks: Iterator[bytes], length: int) -> TarSample:
    with closing(read_samples(_ended(blocks), length + END_BLOCKS, apart=True)) as samples:
        found = next(samples, None)
    if found is None:
        raise TarError("tar_empty", "no sample there")
    return found


def _ended(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield bytes(END_BLOCKS)
