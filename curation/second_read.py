"""Damage is read twice before it is recorded: a bit that flips on the way is not the shard's fault.

Costs one ranged read for each damaged sample, and one more read of each damaged shard; nothing where all is well.
"""

from __future__ import annotations

from curation.data import ShardRef
from curation.errors import StoreError, TarError
from curation.store import Store
from curation.tar import TarSample, read_samples

GAP_BYTES = 256 << 10  # between members of a sample: more are not read for one request less

#: What no other bytes of the members would change.
BY_NAME = frozenset(("missing_text", "unsafe_name"))


def confirmed(store: Store, shard: ShardRef, sample: TarSample) -> TarSample:
    """The sample with the bytes that two reads agree on. Raises `StoreError` where no two of three do."""
    first = [part.data for part in sample.parts]
    second = _read(store, shard, sample)
    if second == first:
        return sample
    third = _read(store, shard, sample)
    if third == first:
        return sample
    if third != second:
        raise _differ(store, shard, f"three reads of the sample at {sample.start}")
    parts = (part._replace(data=data) for part, data in zip(sample.parts, second, strict=True))
    return sample._replace(parts=tuple(parts))


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


def _read(store: Store, shard: ShardRef, sample: TarSample) -> list[bytes]:
    """The members' bytes: in one read where they are adjacent."""
    start, stop = sample.parts[0].offset, sample.parts[-1].offset + sample.parts[-1].length
    if stop - start <= sum(part.length for part in sample.parts) + GAP_BYTES:
        data = store.get_range(shard.key, start, stop - start, shard.etag)
        return [data[part.offset - start : part.offset - start + part.length] for part in sample.parts]
    return [store.get_range(shard.key, p.offset, p.length, shard.etag) if p.length else b"" for p in sample.parts]
