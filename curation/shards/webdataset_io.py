"""A `webdataset` pipeline over any store: our ranged reads as its URL opener."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import webdataset as wds
from torch.utils.data import get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_expander
from webdataset.utils import PipelineStage

from curation.core.epochs import SharedEpoch
from curation.shards.contents import written
from curation.storage.store import Store

BUFFER = 1000  # the size of the shuffle buffers of shards and of samples


class BlockFile(io.RawIOBase):
    """A read-only stream over an iterator of blocks, in the form that `tarfile` needs."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to len(buffer) bytes into `buffer`; return their number, 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n


class _Opener:
    """The source stage of the pipeline: urls -> {url, stream}. Picklable, for DataLoader workers."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, urls: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in urls:
            key = item["url"]
            size = self.store.head(key).size
            stream = io.BufferedReader(BlockFile(self.store.blocks(key, size)), 1 << 20)
            yield {**item, "url": self.store.location(key), "stream": stream}


class _Epochs:
    """The current epoch: the epoch set last plus the iterations since. Shared by all stages and copies of a pipeline.

    Every worker counts its own iterations. A worker that is restarted for each epoch always counts 0 and can't know how
    often its predecessors ran, so without `set_epoch` the order repeats: the first worker then warns.
    """

    def __init__(self) -> None:
        self.shared = SharedEpoch()
        self._begun = SharedEpoch(-1)  # `times_set` of `shared` when a new worker last started
        self._seen: int | None = None  # the same, in this process
        self._iterations = 0

    def begin(self) -> None:
        """Count another iteration in this process."""
        settings, worker = self.shared.times_set, get_worker_info()
        fresh = self._seen is None
        self._iterations = self._iterations + 1 if self._seen == settings else 0
        self._seen = settings
        if fresh and worker is not None and worker.id == 0:
            if self._begun.value == settings:
                text = "shards and samples repeat the previous epoch's order: call set_epoch(n) before each epoch"
                warnings.warn(f"{text}, or keep the workers (persistent_workers=True)", UserWarning, stacklevel=2)
            self._begun.set(settings)

    @property
    def now(self) -> int:
        return self.shared.value + self._iterations


class _Shuffle(PipelineStage):  # type: ignore[misc]
    """webdataset's shuffle buffer, which yields a random item for each item added, seeded by the epoch."""

    def __init__(self, epochs: _Epochs, seed: int, what: str, *, begins: bool = False) -> None:
        self.epochs, self.seed, self.what, self.begins = epochs, seed, what, begins

    def run(self, source: Iterator[Any]) -> Iterator[Any]:
        if self.begins:
            self.epochs.begin()
        seed = random.Random(f"{self.seed} {self.epochs.now} {self.what}").getrandbits(32)
        found: Iterator[Any] = wds.detshuffle(BUFFER, initial=100, seed=seed).run(source)
        return found


class SnapshotDataset(wds.DataPipeline, wds.compat.FluidInterface):  # type: ignore[misc]
    """A webdataset pipeline over shards of a store (`keys`), with webdataset's fluent methods.

    Shards are split by node and by DataLoader worker, as in webdataset. With `shuffle`, shards and samples are shuffled
    in buffers of 1,000, in an order determined by `seed` and epoch. `set_epoch` sets the epoch in all workers; further
    iterations in the same process (or in persistent workers) are the epochs after it. `txt` is always the caption, even
    if the recipe takes it from the json: `caption` is its place, as the recipe's `input` names it.
    """

    def __init__(
        self, store: Store, keys: Sequence[str], caption: str = "", *, shuffle: bool = False, seed: int = 0
    ) -> None:
        self._epochs = epochs = _Epochs()
        stages: list[Any] = [wds.SimpleShardList(list(keys)), wds.split_by_node, wds.split_by_worker]
        if shuffle:
            stages.insert(1, _Shuffle(epochs, seed, "shards", begins=True))
        stages += [_Opener(store), partial(_samples, caption=caption)]
        if shuffle:
            stages.append(_Shuffle(epochs, seed, "samples"))
        super().__init__(*stages)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration. Call it on every node, before the DataLoader's iteration begins."""
        self._epochs.shared.set(epoch)


def _samples(streams: Iterator[dict[str, Any]], caption: str) -> Iterator[dict[str, Any]]:
    """Yield webdataset's samples with the caption as `txt`, wherever the recipe takes it from."""
    for sample in group_by_keys(tar_file_expander(streams)):
        if caption not in ("", "txt") or "txt" not in sample:
            sample["txt"] = written(sample, caption)[1].encode()
        yield sample
