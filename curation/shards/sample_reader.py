"""A reader for single samples by byte range, `[offset, offset + length)` of a shard, for pages and comparisons.

One range is one request. In a shard that is read by its index (see `tar_samples`), the members of samples are
interleaved, and the range of a sample can be most of the shard. Ranges above `DIRECT` bytes are therefore read from
copies of their shards on local disk, of which `COPIES` are kept, so that a shard is downloaded once for many samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from threading import Lock
from types import TracebackType

from curation.core.errors import TarError
from curation.shards.tar import END_BLOCKS
from curation.shards.tar_samples import MAX_INTERLEAVED, TarSample, read_samples
from curation.shards.tar_spool import Spool
from curation.storage.store import Store

DIRECT = 16 << 20  # bytes that are read from the store without a local copy
COPIES = 4  # shards kept on local disk


class SampleReader:
    """Reads samples of one store. A context manager, which deletes the copies at its end. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = Lock()
        self._copies: OrderedDict[tuple[str, str], Spool] = OrderedDict()

    def read(self, key: str, etag: str, offset: int, length: int) -> TarSample:
        """Return the sample at this range. Raises `StoreError`, or `TarError` if there is no sample."""
        if length > DIRECT and self.store.size(key) <= MAX_INTERLEAVED:
            with self._lock:  # the copy must not be deleted while it is read
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
        """Delete the copies."""
        while self._copies:
            self._copies.popitem()[1].close()

    def __enter__(self) -> SampleReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _first(blocks: Iterator[bytes], length: int) -> TarSample:
    with closing(read_samples(_ended(blocks), length + END_BLOCKS, interleaved=True)) as samples:
        found = next(samples, None)
    if found is None:
        raise TarError("tar_empty", "no sample there")
    return found


def _ended(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield bytes(END_BLOCKS)
