"""Candidates in a cluster's object store: tasks read each shard once, for all processes of a node.

One actor, the keeper, plans the blocks and the windows, and starts to read the next window while one is in use
(`curation.learning.blocks`). It holds references only: a process that draws candidates asks it for a reference and maps
the block into its memory. If the keeper dies, Ray restarts it, and blocks are read again on request.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import ray

from actors.ray_cluster import unwrap
from actors.waiting import get, wait
from curation.dataset.loader import ListedShard
from curation.learning.blocks import HELD, Recent, WindowCache
from curation.learning.candidates import Candidates
from curation.learning.data import Data
from curation.selection.pool_blocks import Block, Extent, ReadCounts

ATTEMPTS = 5  # to fetch a block that may be lost on the way


class Measured(NamedTuple):
    """Facts about a block that the keeper has without holding it."""

    samples: int
    share: float
    skipped: Counter[str]
    fields: set[str]


def _read(candidates: Candidates, source: int, shard: ListedShard) -> tuple[Block, Measured]:
    """Read a shard of the source with this index. Runs as a task."""
    block, skipped = candidates.read_shard(source, shard)
    return block, Measured(len(block), block.share, skipped, block.fields_with_values)


class BlockKeeper(WindowCache):
    """A threaded actor: the blocks in the object store, and the windows that they form."""

    def __init__(self, data: list[Any], readers: int) -> None:
        """data: a reference to the run's `Data`, in a list. readers: shards that are read at once."""
        found: Data = get(data[0])
        super().__init__(found.candidates, ahead=readers - 1)
        self._how = ray.put(replace(found.candidates, shards=()))  # so that no task unpacks a million shards
        self._held: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # ordinal -> references to block and measures
        self._noted: dict[int, int] = {}  # ordinal -> samples, of the held blocks that are read
        self._refs = threading.Lock()
        self._begun = threading.Lock()
        self._is_begun = False
        self._task: Any = ray.remote(num_cpus=0, num_returns=2, max_retries=5, scheduling_strategy="SPREAD")(_read)

    def ready(self) -> int | None:
        """Read as much as memory holds; return the samples of a window, or None for a single window."""
        with self._begun:
            if not self._is_begun:
                self.begin(lambda samples: None)
                self._is_begun = True
        return self.room

    def window(self, epoch: int, first: int) -> Extent:
        """Return the window of an epoch that begins with its shard number `first`."""
        self.ready()
        return self.extent(epoch, first)

    def reference(self, ordinal: int) -> list[Any]:
        """Return a reference to a block, in a list, so that Ray doesn't fetch the block for the caller."""
        return [self._started(ordinal)[0]]

    def forget(self, ordinal: int) -> None:
        """Drop a block that is lost or could not be read; the next request reads it again."""
        with self._refs:
            self._held.pop(ordinal, None)
            self._noted.pop(ordinal, None)

    def known(self) -> ReadCounts:
        """Return the counts of what was read so far."""
        with self._refs:
            self._look()
        return self.read.copy()

    def measure(self, ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        _, measured = self._started(ordinal)
        for other in behind[: self._ahead()]:
            self._started(other)
        try:
            found: Measured = get(measured)
        except ray.exceptions.RayError as error:
            self.forget(ordinal)
            raise unwrap(error) from None
        with self._refs:
            self._look()
        return found.samples, found.share

    def _ahead(self) -> int:
        """Return how many shards may be read ahead: as many as fit into a window, by the largest one so far."""
        return self.most // HELD // self.read.largest if self.read.largest else 0

    def _started(self, ordinal: int) -> tuple[Any, Any]:
        with self._refs:
            found = self._held.pop(ordinal, None)
            if found is None:
                self._look()
                source, shard = self.candidates.shards[ordinal]
                block, measured = self._task.remote(self._how, source, shard)
                found = block, measured
            self._held[ordinal] = found  # the most recently used is last
            return found

    def _look(self) -> None:
        """Count blocks that have been read since, and evict the least recently used ones that exceed memory.

        Blocks that could not be read are dropped as well: a process that waits for one has its reference, and the next
        attempt may succeed.
        """
        asked = {measured: ordinal for ordinal, (_, measured) in self._held.items() if ordinal not in self._noted}
        there, _ = wait(list(asked), num_returns=len(asked), timeout=0) if asked else ([], [])
        for ordinal, measured in [(asked[reference], reference) for reference in there]:
            try:
                found: Measured = get(measured)
            except ray.exceptions.RayError:
                self._held.pop(ordinal)
                continue
            self.read.note(ordinal, found.samples, found.skipped, found.fields)
            self._noted[ordinal] = max(1, found.samples)  # so that empty blocks are evicted, too
        while self._samples() > self.most and len(self._noted) > 1:
            ordinal = next(ordinal for ordinal in self._held if ordinal in self._noted)
            del self._held[ordinal], self._noted[ordinal]  # a block that is being read can't be evicted

    def _samples(self) -> int:
        """Return the samples in memory, including an estimate for blocks that are being read."""
        return sum(self._noted.values()) + (len(self._held) - len(self._noted)) * self.read.largest


class SharedBlocks:
    """The blocks as a process of the cluster sees them: the most recently used ones are mapped into its memory."""

    def __init__(self, keeper: Any, candidates: Candidates) -> None:
        self.keeper, self.candidates = keeper, candidates
        self.room: int | None = get(keeper.ready.remote())
        # The window in use and the one before; the keeper holds the next ones.
        self._held = Recent(WindowCache.holds(candidates.recipe) if self.room is None else 2 * self.room)

    @property
    def read(self) -> ReadCounts:
        """The counts of what was read so far."""
        found: ReadCounts = get(self.keeper.known.remote())
        return found

    def names(self) -> list[str]:
        """Return the name of each shard, by which another run recognises it."""
        return self.candidates.names()

    def extent(self, epoch: int, first: int) -> Extent:
        """Return the window of an epoch that begins with its shard number `first`."""
        found: Extent = get(self.keeper.window.remote(epoch, first))
        return found

    def block(self, ordinal: int) -> Block:
        """Return one block, read if it is not in memory."""
        found = self._held.get(ordinal)
        for attempt in range(ATTEMPTS):
            if found is not None:
                break
            (reference,) = get(self.keeper.reference.remote(ordinal))
            try:
                found = get(reference)
            except ray.exceptions.RayError as error:
                get(self.keeper.forget.remote(ordinal))
                if attempt + 1 == ATTEMPTS or isinstance(error, ray.exceptions.RayTaskError):
                    raise unwrap(error) from None
        assert found is not None
        self._held.put(ordinal, found)
        return found
