"""Decoded samples for training from shards: split over ranks and workers, shuffled, none lost or repeated.

A snapshot records the number of samples of every shard. Then ranks and workers take equal ranges of the epoch's order,
cut inside shards where needed: shares differ by at most one sample, and a worker reads at most two shards in part. A
bare corpus has no such numbers, so whole shards are dealt out in turn.

Cost a sample on one core: header scan 8 us, PNG of 64 px 120 us, photograph to 224 px 2 ms. Memory a worker: one block
of a shard and `shuffle` encoded images.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch.utils.data import IterableDataset, get_worker_info

from curation.core.epochs import SharedEpoch
from curation.core.errors import ChangedError, ImageError, TarError, UserError
from curation.core.holdout import content_of, group_of, is_held_out
from curation.core.origins import ORIGINS, PROVENANCE, REAL, origin_of
from curation.core.types import ShardRef, uid
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.shards import contents, images, tar_samples
from curation.shards.images import DecodeLimits, Mode, Pixels
from curation.shards.tar_samples import TarSample
from curation.storage.store import Store

Part = Literal["all", "train", "held_out"]

SEPARATOR = "\x1f"  # between the values of a label of several fields
CONTENT = "\0content"  # as a field of a label: the content hash of the image (`holdout.content_of`)

ORIGIN_REASON = "origin_"  # followed by the origin of a sample that is left out
_OF_ORIGIN = tuple(f"{ORIGIN_REASON}{origin}" for origin in ORIGINS)
REASONS = (*tar_samples.REASONS, *images.REASONS, *contents.REASONS, *_OF_ORIGIN, "other")
_COUNTED_WORKERS = 64  # rows of the shared counters; workers beyond it share rows


class ListedShard(NamedTuple):
    """One tar of a store. `samples`: its number of samples, None if unknown. An empty etag is not checked."""

    store: Store
    ref: ShardRef
    samples: int | None
    caption: str = ""  # location of captions in a sample, from the recipe of its snapshot
    limits: DecodeLimits | None = None  # decode limits of that recipe; None: the defaults


class SampleSubset(Protocol):
    """A subset of the samples, such as `random_subset.Subset`."""

    def holds(self, uid: str) -> bool:
        """Whether the sample with this uid, derived from its position (`types.uid`), is in the subset."""
        ...


class Example(NamedTuple):
    """A decoded sample: a tuple of an array and strings, which torch's `default_collate` collates to batches."""

    pixels: Pixels  # uint8 [size, size, 3] RGB
    caption: str
    uid: str
    label: str  # value of the metadata field `label` of the stream, or ""; several fields are joined (`split_label`)


@dataclass
class _Drawn:
    """A sample that was read and is not decoded yet: an element of the shuffle buffer."""

    image: bytes
    caption: str
    uid: str
    label: str
    limits: DecodeLimits  # decode limits: those of the stream, or else of the sample's snapshot


class SampleStream(IterableDataset[Example]):
    """Samples of `shards` as `Example`s, one epoch an iteration.

    Call `set_epoch` before each iteration for another order; DataLoader workers follow, also persistent ones. Samples
    that can't be used are skipped and counted in `skipped` by reason, also by DataLoader workers.

    - `size`, `mode`: side of the decoded images in pixels, and the resize mode.
    - `shuffle`: size of the shuffle buffer in samples; 0 reads shards and samples in their order. `seed` seeds both.
    - `rank`, `world`: this process and the number of processes; default to those of torch.distributed, if it runs.
    - `part`, `holdout`: whether to read all samples, the training part, or the held-out share of groups. A group is the
      samples with one value of the metadata field `group`, or with the same image where that is missing or `group` is
      "" (`curation.core.holdout`).
    - `label`: metadata field, or several, returned as each sample's label; `CONTENT` stands for the image's hash.
    - `limits`: decode limits; default to those of the shard's snapshot.
    - `subset`: reads only its samples, by their positions in `shards`.
    - `origins`: reads only samples of these origins (`core.origins`); None for all.
    - `weights`: repeats each sample by its weight; copies follow each other, apart from the shuffle buffer.
    """

    def __init__(
        self,
        shards: Sequence[ListedShard],
        *,
        size: int,
        mode: Mode = "shortest",
        shuffle: int = 1000,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        part: Part = "all",
        holdout: float = 0.0,
        label: str | Sequence[str] = "name",
        group: str = "name",
        limits: DecodeLimits | None = None,
        subset: SampleSubset | None = None,
        weights: SampleWeights = ALIKE,
        origins: Sequence[str] | None = None,
    ) -> None:
        if (rank is None) != (world is None):
            raise UserError("rank and world must be given together", fix="omit both to use those of torch.distributed")
        self.shards = list(shards)
        self.size, self.mode, self.limits = size, mode, limits
        self.shuffle, self.seed, self._epoch = shuffle, seed, SharedEpoch()
        self.rank, self.world = rank, world
        self.part, self.holdout = part, holdout
        self.group, self.subset, self.weights = group, subset, weights
        self.origins = origins
        self.labels = (label,) if isinstance(label, str) else tuple(label)
        # Shared memory, because DataLoader's workers are processes and their counts must be visible here.
        self._skipped = torch.zeros(_COUNTED_WORKERS, len(REASONS), dtype=torch.int64)
        self._skipped.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """Epoch of the next iteration, here and in every DataLoader worker."""
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order and the copies of weighted samples. Call it before an iteration."""
        self._epoch.set(epoch)

    def over(self, shards: Sequence[ListedShard]) -> SampleStream:
        """Return a stream of other shards, read in the same way, with an epoch and counts of its own."""
        found = copy(self)
        found.shards, found._epoch, found._skipped = list(shards), SharedEpoch(), torch.zeros_like(self._skipped)
        found._skipped.share_memory_()  # type: ignore[no-untyped-call]
        return found

    @property
    def samples(self) -> int | None:
        """Number of samples in all shards, before any is skipped or held out; None if unknown for some shard."""
        counts = [shard.samples for shard in self.shards]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def skipped(self) -> Counter[str]:
        """Number of samples skipped so far by reason, over all workers; a lower bound for the `tar_` reasons."""
        totals = self._skipped.sum(0).tolist()
        return Counter({reason: total for reason, total in zip(REASONS, totals, strict=True) if total})

    def __iter__(self) -> Iterator[Example]:
        worker = get_worker_info()
        rank, world = self._place()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        count, epoch = self._counter(number), self.epoch  # read now: it may be set again during this iteration
        share = self._share(rank * workers + number, world * workers, count, epoch)
        for drawn in self._shuffled(share, epoch):
            try:
                pixels = images.decode(drawn.image, drawn.limits, self.size, self.mode)
            except ImageError as error:
                count(error.reason, 1)
                continue
            yield Example(pixels, drawn.caption, drawn.uid, drawn.label)

    def places(self, *, counted: bool = False) -> Iterator[str]:
        """Yield the uid of each readable sample, derived from its position, as `subset` uses it; none is decoded.

        `counted`: whether unreadable samples are counted in `skipped`.
        """
        count = self._counter(0) if counted else _uncounted
        for shard in self.shards:
            for sample in self._read(shard, 0, None, count):
                if self._draw(shard, sample, count) is not None:
                    yield uid(shard.ref.key, shard.ref.etag, sample.start)

    def read_labels(self) -> Iterator[str]:
        """Yield the labels of this part's samples; none is decoded."""
        for shard in self.shards:
            for sample in self._read(shard, 0, None, _uncounted):
                if (drawn := self._draw(shard, sample, _uncounted)) is not None:
                    yield drawn.label

    def plan(self, share: int, shares: int, epoch: int | None = None) -> list[tuple[ListedShard, int, int | None]]:
        """List what share `share` of `shares` reads in an epoch: (shard, first sample, end or None for all).

        `epoch`: None for the next one.
        """
        order = list(self.shards)
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch if epoch is None else epoch}").shuffle(order)
        total = self.samples
        if total is None:
            return [(shard, 0, None) for shard in order[share::shares]]
        first, last = total * share // shares, total * (share + 1) // shares
        ranges: list[tuple[ListedShard, int, int | None]] = []
        at = 0
        for shard in order:
            assert shard.samples is not None
            low, high = max(first - at, 0), min(last - at, shard.samples)
            if low < high:
                ranges.append((shard, low, high))
            at += shard.samples
        return ranges

    def _place(self) -> tuple[int, int]:
        if self.rank is not None and self.world is not None:
            return self.rank, self.world
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _counter(self, worker: int) -> Callable[[str, int], None]:
        row = self._skipped[worker % _COUNTED_WORKERS]

        def count(reason: str, samples: int) -> None:
            row[REASONS.index(reason if reason in REASONS else "other")] += samples

        return count

    def _shuffled(self, drawn: Iterator[_Drawn], epoch: int) -> Iterator[_Drawn]:
        """Shuffle through a buffer: each new element replaces a random one, which is yielded. Seeded by the epoch."""
        if self.shuffle <= 1:
            yield from drawn
            return
        generator = random.Random(f"{self.seed} {epoch} buffer")
        buffer: list[_Drawn] = []
        for item in drawn:
            if len(buffer) < self.shuffle:
                buffer.append(item)
                continue
            index = generator.randrange(self.shuffle)
            buffer[index], item = item, buffer[index]
            yield item
        generator.shuffle(buffer)
        yield from buffer

    def _share(self, share: int, shares: int, count: Callable[[str, int], None], epoch: int) -> Iterator[_Drawn]:
        for shard, first, end in self.plan(share, shares, epoch):
            for sample in self._read(shard, first, end, count):
                drawn = self._draw(shard, sample, count)
                if drawn is not None:
                    times = self.weights.times(drawn.uid, self.seed, epoch) if self.weights else 1
                    yield from [drawn] * times

    def _read(
        self, shard: ListedShard, first: int, end: int | None, count: Callable[[str, int], None]
    ) -> Iterator[TarSample]:
        """Yield samples `[first, end)` of one shard. Raises `ChangedError` for another number than its snapshot's."""
        key, size, etag = shard.ref
        seen = 0
        try:
            samples = tar_samples.read_samples(shard.store.blocks(key, size, etag or None), size)
            for seen, sample in enumerate(samples, 1):
                if end is not None and seen > end and end < (shard.samples or 0):
                    return  # the rest is another share's; only the last range of a shard reads to its end
                if first < seen and (end is None or seen <= end):
                    yield sample
        except TarError as error:
            lost = (end or 0) - max(seen, first)
            count(error.reason, max(lost, 1))
            return
        if shard.samples is not None and seen != shard.samples:
            where = shard.store.location(key)
            raise ChangedError(f"{where} has {seen} samples, but its snapshot records {shard.samples}")

    def _draw(self, shard: ListedShard, sample: TarSample, count: Callable[[str, int], None]) -> _Drawn | None:
        place = uid(shard.ref.key, shard.ref.etag, sample.start)
        if self.subset is not None and not self.subset.holds(place):
            return None
        if sample.reason is not None:
            count(sample.reason, 1)
            return None
        try:
            image, caption, metadata = contents.parse(sample, shard.caption)
        except ImageError as error:
            count(error.reason, 1)
            return None
        name = uid_of(metadata) or place
        if self.part != "all":
            group = group_of(str(metadata.get(self.group) or ""), image)
            if is_held_out(group, self.holdout) != (self.part == "held_out"):
                return None
        if self.origins is not None and (origin := origin_of(metadata) or REAL) not in self.origins:
            count(f"{ORIGIN_REASON}{origin}", 1)
            return None
        values = (content_of(image) if label == CONTENT else metadata.get(label) for label in self.labels)
        labels = ("" if value is None or isinstance(value, list | dict) else str(value) for value in values)
        limits = self.limits or shard.limits or DecodeLimits()
        return _Drawn(image, caption, name, SEPARATOR.join(labels), limits)


def _uncounted(reason: str, samples: int) -> None:
    """Ignore skipped samples: those of a read outside an epoch are not counted."""


def uid_of(metadata: Mapping[str, Any]) -> str | None:
    """Uid in the metadata of a sample of a curated shard; None where it is missing or has another form."""
    curated = metadata.get(PROVENANCE)
    found = curated.get("uid") if isinstance(curated, dict) else None
    return found if isinstance(found, str) and re.fullmatch("[0-9a-f]{32}", found) else None


def split_label(label: str) -> list[str]:
    """Split a label of several fields into the fields' values."""
    return label.split(SEPARATOR)
