"""The second read that confirms damage before it is recorded, because bits can flip in transit.

Cost: at most one ranged read a unit. It covers the damaged samples of the unit's first table with damage, as far as
they are within `SPAN` bytes of the first of them. Later damaged samples are recorded without it, unless that read
returned other bytes: then the next table with damage is read again, too. (If the members of the first damaged sample
are not adjacent, each costs one read.) A shard whose archive is broken is read again completely, once. Sound units and
the reasons in `SURE` cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.core.errors import StoreError, TarError
from curation.core.types import ShardRef
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.store import Store

SPAN = 8 << 20  # bytes that one second read covers
GAP_BYTES = 256 << 10  # the largest gap between members of a sample that is read to save a request

#: Reasons that follow from names, magic bytes, headers and limits. Damage in transit shows as the other reasons.
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
    """The second read of one unit: `add` samples that seem damaged, and `settle` them when their table is full."""

    def __init__(self, store: Store, shard: ShardRef) -> None:
        self.store, self.shard = store, shard
        self._samples: list[tuple[int, TarSample]] = []
        self._confirmed = False

    def add(self, position: int, sample: TarSample) -> None:
        """Note a damaged sample; `position` is the caller's. Holds at most `SPAN` bytes plus one sample."""
        if self._confirmed:
            return
        if self._samples and _stop(sample) - _start(self._samples[0][1]) > SPAN:
            return
        self._samples.append((position, sample))

    def settle(self) -> Iterator[tuple[int, TarSample]]:
        """Yield (position, sample) for samples damaged in transit, with the bytes on which two of three reads agree.

        Raises `StoreError` if no two reads agree.
        """
        samples, self._samples = self._samples, []
        if not samples:
            return
        self._confirmed = True
        for (position, sample), second in zip(samples, self._read_all([sample for _, sample in samples]), strict=True):
            first = [part.data for part in sample.parts]
            if second == first:
                continue
            self._confirmed = False
            third = self._read(sample)
            if third == second:
                parts = (part._replace(data=data) for part, data in zip(sample.parts, second, strict=True))
                yield position, sample._replace(parts=tuple(parts))
            elif third != first:
                raise _differ(self.store, self.shard, f"three reads of the sample at {sample.start}")

    def _read_all(self, samples: list[TarSample]) -> list[list[bytes]]:
        """Return the members' bytes of each sample, from one request for all."""
        if len(samples) == 1:
            return [self._read(samples[0])]
        start, stop = min(map(_start, samples)), max(map(_stop, samples))
        data = self.store.get_range(self.shard.key, start, stop - start, self.shard.etag)
        return [_cut(sample, data, start) for sample in samples]

    def _read(self, sample: TarSample) -> list[bytes]:
        """Return the members' bytes of one sample, from one request if they are adjacent."""
        start, stop, key, etag = _start(sample), _stop(sample), self.shard.key, self.shard.etag
        if stop - start <= sum(part.length for part in sample.parts) + GAP_BYTES:
            return _cut(sample, self.store.get_range(key, start, stop - start, etag), start)
        return [self.store.get_range(key, p.offset, p.length, etag) if p.length else b"" for p in sample.parts]


def confirm(store: Store, shard: ShardRef, error: TarError, samples: int) -> None:
    """Raise `StoreError` unless a second read of the shard ends with the same error after as many samples."""
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
    return StoreError(
        text, fix="run the command again; if the error remains, check the network, the proxy and the disk"
    )


def _start(sample: TarSample) -> int:
    return min(part.offset for part in sample.parts)


def _stop(sample: TarSample) -> int:
    return max(part.offset + part.length for part in sample.parts)


def _cut(sample: TarSample, data: bytes, start: int) -> list[bytes]:
    return [data[part.offset - start : part.offset - start + part.length] for part in sample.parts]
