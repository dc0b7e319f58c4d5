"""Plain `webdataset` over any store: its URL opener, given our ranged reads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import webdataset as wds
from webdataset.tariterators import group_by_keys, tar_file_expander

from curation.store import Store


class BlockFile(io.RawIOBase):
    """A read-only stream over an iterator of blocks, as `tarfile` wants one."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n


class _Opener:
    """The source stage of the pipeline: urls -> {url, stream}. Picklable, so that DataLoader workers can have it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, urls: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in urls:
            key = item["url"]
            size = self.store.head(key).size
            stream = io.BufferedReader(BlockFile(self.store.blocks(key, size)), 1 << 20)
            yield {**item, "url": self.store.location(key), "stream": stream}


class SnapshotDataset(wds.DataPipeline, wds.compat.FluidInterface):  # type: ignore[misc]
    """A webdataset pipeline over the shards of a store, with webdataset's fluent methods.

    Shards are split by node and by DataLoader worker as webdataset does it; with `shuffle`, shards are shuffled anew in
    every epoch and samples in a buffer of 1,000.
    """

    def __init__(self, store: Store, keys: Sequence[str], *, shuffle: bool = False, seed: int = 0) -> None:
        stages: list[Any] = [wds.SimpleShardList(list(keys)), wds.split_by_node, wds.split_by_worker]
        if shuffle:
            stages.insert(1, wds.detshuffle(1000, seed=seed))
        stages += [_Opener(store), _samples]
        if shuffle:
            stages.append(wds.shuffle(1000, initial=100))
        super().__init__(*stages)


def _samples(streams: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from group_by_keys(tar_file_expander(streams))
