"""Candidates in a cluster's object store: shards are read by tasks, once, for all processes of a node.

One actor knows which blocks there are, which window comes next, and has its shards read while the one before is in use
(`curation.learning.blocks`); it holds references alone. Whoever draws asks it for a reference and maps the block into
its memory. If it dies, Ray starts it again, and it has read again what it is asked for.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import ray

from actors.cluster import unwrap
from actors.waiting import get, wait
from curation.dataset.loader import ListedShard
from curation.learning.blocks import HELD, Recent, WindowCache
from curation.learning.data import Candidates, Data
from curation.selection.pool import Block, Extent, ReadCounts

ASKED_AGAIN = 5  # times, for a block that was lost before it was fetched


class Measured(NamedTuple):
    """What the keeper knows of a block without having it."""

    samples: int
    share: float
    skipped: Counter[str]
    fields: set[str]


def _read(candidates: Candidates, place: int, shard: ListedShard) -> tuple[Block, Measured]:
    block, skipped = candidates.read_shard(place, shard)
    return block, Measured(len(block), block.share, skipped, block.told)


class BlockKeeper(WindowCache):
    """A threaded actor: which blocks are in the object store, and what windows they make."""

    def __init__(self, data: list[Any], readers: int) -> None:
        """`data`: a reference to what is to be read, in a list; `readers`: shards that are read at once."""
        found: Data = get(data[0])
        super().__init__(found.candidates, ahead=readers - 1)
        self._how = ray.put(replace(found.candidates, shards=()))  # a million of these are not unpacked by every task
        self._held: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # references to block and measures
        self._noted: dict[int, int] = {}  # samples of those of them that are read
        self._refs = threading.Lock()
        self._begun = threading.Lock()
        self._is_begun = False
        self._task = ray.remote(num_cpus=0, num_returns=2, max_retries=5, scheduling_strategy="SPREAD")(_read)

    def ready(self) -> int | None:
        """Read what memory holds; samples of a window, or None where all are one."""
        with self._begun:
            if not self._is_begun:
                self.begin(lambda samples: None)
                self._is_begun = True
        return self.room

    def window(self, epoch: int, first: int) -> Extent:
        self.ready()
        return self.extent(epoch, first)

    def reference(self, ordinal: int) -> list[Any]:
        """To a block, in a list, so that only who asks for it gets it."""
        return [self._started(ordinal)[0]]

    def forget(self, ordinal: int) -> None:
        """A block can't be had, or was not read: it is read again when it is asked for."""
        with self._refs:
            self._held.pop(ordinal, None)
            self._noted.pop(ordinal, None)

    def known(self) -> ReadCounts:
        """What was read so far."""
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
        """How many shards may be read ahead: as many as fit into a window, by the largest that was read."""
        return self.most // HELD // self.read.largest if self.read.largest else 0

    def _started(self, ordinal: int) -> tuple[Any, Any]:
        with self._refs:
            found = self._held.pop(ordinal, None)
            if found is None:
                self._look()
                place, shard = self.candidates.shards[ordinal]
                block, measured = self._task.remote(self._how, place, shard)
                found = block, measured
            self._held[ordinal] = found  # as the one that was asked for last
            return found

    def _look(self) -> None:
        """Note what has been read since, and let go of what was asked for longest ago, as memory has it; and of what
        could not be read, for whoever waits for it has its reference, and later it may be there."""
        asked = {measured: ordinal for ordinal, (_, measured) in self._held.items() if ordinal not in self._noted}
        there, _ = wait(list(asked), num_returns=len(asked), timeout=0) if asked else ([], [])
        for ordinal, measured in [(asked[reference], reference) for reference in there]:
            try:
                found: Measured = get(measured)
            except ray.exceptions.RayError:
                self._held.pop(ordinal)
                continue
            self.read.note(ordinal, found.samples, found.skipped, found.fields)
            self._noted[ordinal] = max(1, found.samples)  # there may be any number of empty ones
        while self._samples() > self.most and len(self._noted) > 1:
            ordinal = next(ordinal for ordinal in self._held if ordinal in self._noted)
            del self._held[ordinal], self._noted[ordinal]  # what is being read comes anyhow

    def _samples(self) -> int:
        """In memory, those that are being read with them."""
        return sum(self._noted.values()) + (len(self._held) - len(self._noted)) * self.read.largest


class SharedBlocks:
    """The blocks as a process of the cluster has them: the few that it asked for last are mapped."""

    def __init__(self, keeper: Any, candidates: Candidates) -> None:
        self.keeper, self.candidates = keeper, candidates
        self.room: int | None = get(keeper.ready.remote())
        # Of windows the one in use and the one before: the keeper holds those that come.
        self._held = Recent(WindowCache.holds(candidates.recipe) if self.room is None else 2 * self.room)

    @property
    def read(self) -> ReadCounts:
        found: ReadCounts = get(self.keeper.known.remote())
        return found

    def names(self) -> list[str]:
        return self.candidates.names()

    def extent(self, epoch: int, first: int) -> Extent:
        found: Extent = get(self.keeper.window.remote(epoch, first))
        return found

    def block(self, ordinal: int) -> Block:
        found = self._held.get(ordinal)
        for attempt in range(ASKED_AGAIN):
            if found is not None:
                break
            (reference,) = get(self.keeper.reference.remote(ordinal))
            try:
                found = get(reference)
            except ray.exceptions.RayError as error:
                get(self.keeper.forget.remote(ordinal))
                if attempt + 1 == ASKED_AGAIN or isinstance(error, ray.exceptions.RayTaskError):
                    raise unwrap(error) from None
        assert found is not None
        self._held.put(ordinal, found)
        return found
