"""Damage is read twice before it is recorded: a bit that flips on the way is not the shard's fault.

Cost: one ranged read a unit at most. It covers the damaged samples of the first table of the unit that has any, as far
as they lie within `SPAN` bytes of the first of them; the damaged samples that follow are believed, unless that read
brought other bytes: then the next table with damage is read again, too. (A first damaged sample whose members lie apart
costs one read a member.) A shard whose archive is broken is read again whole, once. Nothing where all is well, and
nothing for the reasons in `SURE`.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.core.errors import StoreError, TarError
from curation.core.types import ShardRef
from curation.shards.tar import TarSample, read_samples
from curation.storage.store import Store

SPAN = 8 << 20  # bytes that one second read covers
GAP_BYTES = 256 << 10  # between members of a sample: more are not read for one request less

#: Reasons that come from names, magic bytes, headers and limits. Damaged content has the other ones.
SURE = frozenset(
    (
        "caption_not_text",
        "caption_too_long",
        "image_empty",
        "image_format",
        "image_too_many_bytes",
        "image_too_many_pixels",
        "image_too_many_scans",
        "image_unsupported",
        "missing_text",
        "unsafe_name",
    )
)


class SecondRead:
    """The second read of one unit: samples that seem damaged are added, and settled when their table is full."""

    def __init__(self, store: Store, shard: ShardRef) -> None:
        self.store, self.shard = store, shard
        self._samples: list[tuple[int, TarSample]] = []
        self._believes = False

    def add(self, position: int, sample: TarSample) -> None:
        """Note a damaged sample for the read; `position` is the caller's. Keeps at most `SPAN` bytes and one sample."""
        if self._believes:
            return
        if self._samples and _stop(sample) - _start(self._samples[0][1]) > SPAN:
            return
        self._samples.append((position, sample))

    def settle(self) -> Iterator[tuple[int, TarSample]]:
        """Samples that came damaged, with the bytes that two of three reads agree on.

        Raises `StoreError` where no two reads agree.
        """
        samples, self._samples = self._samples, []
        if not samples:
            return
        self._believes = True
        for (position, sample), second in zip(samples, self._read_all([sample for _, sample in samples]), strict=True):
            first = [part.data for part in sample.parts]
            if second == first:
                continue
            self._believes = False
            third = self._read(sample)
            if third == second:
                parts = (part._replace(data=data) for part, data in zip(sample.parts, second, strict=True))
                yield position, sample._replace(parts=tuple(parts))
            elif third != first:
                raise _differ(self.store, self.shard, f"three reads of the sample at {sample.start}")

    def _read_all(self, samples: list[TarSample]) -> list[list[bytes]]:
        """The members' bytes of each sample, in one read of all."""
        if len(samples) == 1:
            return [self._read(samples[0])]
        start, stop = min(map(_start, samples)), max(map(_stop, samples))
        data = self.store.get_range(self.shard.key, start, stop - start, self.shard.etag)
        return [_cut(sample, data, start) for sample in samples]

    def _read(self, sample: TarSample) -> list[bytes]:
        """The members' bytes of one sample: in one read where they are adjacent."""
        start, stop, key, etag = _start(sample), _stop(sample), self.shard.key, self.shard.etag
        if stop - start <= sum(part.length for part in sample.parts) + GAP_BYTES:
            return _cut(sample, self.store.get_range(key, start, stop - start, etag), start)
        return [self.store.get_range(key, p.offset, p.length, etag) if p.length else b"" for p in sample.parts]


def confirm(store: Store, shard: ShardRef, error: TarError, samples: int) -> None:
    """Raise `StoreError` unless another read of the shard ends with the same error after as many samples."""
    found = 0
    try:
        for _ in read_samples(store.blocks(shard.key, shard.size, shard.etag), shard.size):
            found += 1
    except TarError as again:
        if (again.reason, again.offset, found) == (error.reason, error.offset, samples):
            return
    raise _differ(store, shard, "two reads")


def _differ(store: Store, shard: ShardRef, what: str) -> StoreError:
    text = f"{what} of {store.location(shard.key)} differ"
    return StoreError(text, fix="run it again; if it stays so, look at the network, the proxy or the disk")


def _start(sample: TarSample) -> int:
    return min(part.offset for part in sample.parts)


def _stop(sample: TarSample) -> int:
    return max(part.offset + part.length for part in sample.parts)


def _cut(sample: TarSample, data: bytes, start: int) -> list[bytes]:
    return [data[part.offset - start : part.offset - start + part.length] for part in sample.parts]
