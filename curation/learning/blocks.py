"""Candidates held as blocks, window by window, in this process; `actors.blocks` holds them in the object store.

All candidates are held if `memory` allows. Otherwise a quarter of it each holds the window in use, the one before, from
which samples may still be trained on, the next one, which is read meanwhile, and the shards that are being read. So a
shard has to fit into a quarter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from curation.core.errors import EmptyCorpusError, UserError
from curation.learning.candidates import Candidates
from curation.learning.data import Progress
from curation.models import preprocess_for
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.pool import generator_of
from curation.selection.pool_blocks import Block, Extent, ReadCounts, too_large

HELD = 4  # windows that memory holds

#: Measures a shard: its usable samples, and the candidates that an epoch draws from it (the sum of their weights).
#: The second argument are the shards that will be measured next.
Measure = Callable[[int, Sequence[int]], tuple[int, float]]


class Windows:
    """The assignment of shards to windows."""

    def __init__(self, shards: int, room: int | None, seed: int, measure: Measure, ahead: int = 0) -> None:
        """shards: their number. room: samples of a window; None for a single window. measure: reads a shard.
        ahead: shards that `measure` is given to read ahead, at most."""
        self.shards, self.room, self.seed, self.measure, self.ahead = shards, room, seed, measure, ahead
        self._order: tuple[int, list[int]] | None = None

    def order(self, epoch: int) -> list[int]:
        """Return the order of shards in an epoch: of the listing for a single window, else drawn from the seed."""
        if self._order is None or self._order[0] != epoch:
            order = torch.arange(self.shards)
            if self.room is not None:
                order = torch.randperm(self.shards, generator=generator_of(self.seed, "shards", epoch))
            self._order = epoch, order.tolist()
        return self._order[1]

    def extent(self, epoch: int, first: int) -> Extent:
        """Return the window that begins with shard number `first` of an epoch. Reads its shards and the one after."""
        order, taken = self.order(epoch), list[int]()
        samples, share = 0, 0.0
        for number in range(first, self.shards):
            count, weight = self.measure(order[number], order[number + 1 : number + 1 + self.ahead])
            if self.room is not None and taken and samples + count > self.room:
                break
            taken.append(order[number])
            samples, share = samples + count, share + weight
        end = first + len(taken)
        size = samples if self.room is None else round(share)
        return Extent(tuple(taken), size, end if end < self.shards else None)


class WindowCache:
    """Windows of candidates. The next window is measured, and so read, in a thread while one is in use.

    Subclasses hold the blocks, and measure them: `measure`.
    """

    def __init__(self, candidates: Candidates, ahead: int = 0) -> None:
        self.candidates = candidates
        self.read = ReadCounts()
        self.most = self.holds(candidates.recipe)
        self._extents: dict[tuple[int, int], Future[Extent]] = {}
        self._thread = ThreadPoolExecutor(1, "tutelage-windows")
        self._lock = threading.Lock()
        self.windows = Windows(len(candidates.shards), None, candidates.recipe.learner.seed, self._measured, ahead)

    @property
    def room(self) -> int | None:
        """The largest number of samples of a window; None for a single window."""
        return self.windows.room

    def names(self) -> list[str]:
        """Return the name of each shard, by which another run recognises it."""
        return self.candidates.names()

    @staticmethod
    def holds(recipe: LearnRecipe) -> int:
        """Return the number of samples that the recipe's memory holds."""
        return recipe.memory // _sample_bytes(recipe)

    def measure(self, ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        """Return a shard's usable samples, and the candidates that an epoch draws from it. `behind`: shards to come."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _measured(self, ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        """Measure a shard. Raises `UserError` for one that exceeds a window."""
        samples, share = self.measure(ordinal, behind)
        if self.room is not None and samples > self.room:
            recipe, (_, shard) = self.candidates.recipe, self.candidates.shards[ordinal]
            wanted = samples * HELD * _sample_bytes(recipe)
            text = f"{shard.store.location(shard.ref.key)} has {samples:,} samples, and a window of candidates has room"
            raise UserError(f"{text} for {self.room:,}", fix=f"memory: {wanted:,} or more, or smaller shards")
        return samples, share

    def begin(self, advance: Callable[[int], None]) -> None:
        """Read as much as memory holds, in the order of the listing; if samples are left, there will be windows.

        advance: called with the samples of each shard. Raises `UserError` for too few samples, for windows that are
        smaller than a super-batch, and for a field in `by` that no sample has.
        """
        candidates, samples = self.candidates, 0
        counts = [shard.samples for _, shard in candidates.shards]
        fits = None in counts or sum(count or 0 for count in counts) <= self.most
        for ordinal in range(len(counts) if fits else 0):
            found, _ = self.measure(ordinal, range(ordinal + 1, min(ordinal + 1 + self.windows.ahead, len(counts))))
            samples += found
            advance(found)
            if not (fits := samples <= self.most):
                break
        if not fits:
            self.windows.room = self.most // HELD
            if candidates.recipe.replay is not None:
                self.most //= 2  # the other half holds the samples of the replay's next steps
            self._expect_room(self.windows.room)
            if None not in counts:  # sizes are known: the largest shard is checked now
                self._measured(max(range(len(counts)), key=lambda ordinal: counts[ordinal] or 0), ())
            return
        if samples < max(2, candidates.recipe.learner.batch):
            raise self._too_few(samples)
        if missing := [name for name in candidates.recipe.by if name not in self.read.fields]:
            fix = "name fields of the samples' json, or columns of a snapshot's manifest"
            raise UserError(f"by: no sample has a field {missing[0]}", fix=fix)

    def _too_few(self, samples: int) -> EmptyCorpusError:
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.read.skipped.items()) or "none"
        text = f"{', '.join(self.candidates.urls)} has {samples} samples to train on (skipped: {reasons})"
        batch = self.candidates.recipe.learner.batch
        return EmptyCorpusError(f"{text}, and a batch takes {batch}", fix="a smaller batch, or more data")

    def _expect_room(self, room: int) -> None:
        """Raise `UserError` for super-batches that exceed a window, unless weights make it draw samples repeatedly."""
        recipe = self.candidates.recipe
        wanted = recipe.selection.largest_super_batch(recipe.learner.batch)
        if recipe.replay is None and wanted > room and not any(self.candidates.means):
            raise too_large(wanted, room)

    def extent(self, epoch: int, first: int) -> Extent:
        """Return the window of an epoch that begins with its shard number `first`, and have the next one read."""
        found = self._extent(epoch, first).result()
        if self.room is not None and found.next is None and not any(self.read.samples.values()):
            raise self._too_few(0)  # no window of the epoch has any
        if self.room is not None:
            self._extent(*((epoch + 1, 0) if found.next is None else (epoch, found.next)))
        return found

    def _extent(self, epoch: int, first: int) -> Future[Extent]:
        """Return the future of a window; the last few are remembered. One that failed is tried again."""
        with self._lock:
            key = epoch, first
            found = self._extents.get(key)
            if found is None or (found.done() and found.exception() is not None):
                self._extents[key] = self._thread.submit(self.windows.extent, epoch, first)
                if len(self._extents) > HELD + 1:
                    self._extents.pop(next(iter(self._extents)))
            return self._extents[key]


class LocalBlocks(WindowCache):
    """Blocks of candidates in this process."""

    def __init__(self, candidates: Candidates, progress: Progress) -> None:
        super().__init__(candidates)
        self._held = Recent(self.most)
        self._closed = threading.Event()
        with progress("Reading candidates", None) as advance:
            self.begin(advance)
        self._held.most = self.most

    def block(self, ordinal: int) -> Block:
        """Return one block, read if it is not in memory."""
        found = self._held.get(ordinal)
        if found is None:
            if self.room is not None:
                self._held.spare(self.read.largest)
            found, skipped = self.candidates.read(ordinal, self._closed)
            self.read.note(ordinal, len(found), skipped, found.fields_with_values)
            self._held.put(ordinal, found)
        return found

    def measure(self, ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        block = self.block(ordinal)
        return len(block), block.share

    def close(self) -> None:
        self._closed.set()
        super().close()


def _sample_bytes(recipe: LearnRecipe) -> int:
    """Return the bytes of a candidate's pixels."""
    size = preprocess_for(recipe.learner.model).size
    return 3 * size * size


class Recent:
    """The most recently used blocks, of at most `most` samples. Safe for several threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.samples = 0
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ordinal: int) -> Block | None:
        """Return a block, or None where it is not held."""
        with self._lock:
            if ordinal in self._blocks:
                self._blocks.move_to_end(ordinal)
            return self._blocks.get(ordinal)

    def put(self, ordinal: int, block: Block) -> None:
        """Hold a block, and evict others."""
        with self._lock:
            self.samples += _size(block) - _size(self._blocks.pop(ordinal, None))
            self._blocks[ordinal] = block
        self.spare(0)

    def spare(self, samples: int) -> None:
        """Evict blocks until `samples` more would fit; one block always stays."""
        with self._lock:
            while self.samples + samples > self.most and len(self._blocks) > 1:
                self.samples -= _size(self._blocks.popitem(last=False)[1])


def _size(block: Block | None) -> int:
    """Return the samples of a block; 1 for an empty one, so that empty blocks are evicted, too."""
    return 0 if block is None else max(1, len(block))
