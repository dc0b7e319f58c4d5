"""Candidates in a cluster's object store: shards are read by tasks, once, for all processes of a node.

One actor knows which blocks there are, which window comes next, and has its shards read while the one before is in use
(`curation.learning.blocks`); it holds references alone. Whoever draws asks it for a reference and maps the block into
its memory. If it dies, Ray starts it again, and it has read again what it is asked for.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray

from curation.learning.blocks import Recent, Shelf
from curation.learning.data import Candidates, Data
from curation.pool import Block, Extent, Read

ASKED_AGAIN = 5  # times, for a block whose owner died before it was fetched


class Measured(NamedTuple):
    """What the keeper knows of a block without having it."""

    samples: int
    share: float
    skipped: Counter[str]


def _read(data: Data, ordinal: int) -> tuple[Block, Measured]:
    block, skipped = data.candidates.read(ordinal)
    return block, Measured(len(block), block.share, skipped)


class BlockKeeper(Shelf):
    """A threaded actor: which blocks are in the object store, and what windows they make."""

    def __init__(self, data: list[Any], readers: int) -> None:
        """`data`: a reference to what is to be read, in a list; `readers`: shards that are read at once."""
        found: Data = ray.get(data[0])
        super().__init__(found.candidates)
        self._data, self._readers = data[0], readers
        self._held: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # references to block and measures
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
        """A block can't be had: it is read again when it is asked for."""
        with self._refs:
            self._held.pop(ordinal, None)

    def known(self) -> Read:
        """What was read so far."""
        return self.read.copy()

    def measure(self, ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        _, measured = self._started(ordinal)
        for other in behind[: self._readers - 1]:
            self._started(other)
        found: Measured = ray.get(measured)
        self.read.note(ordinal, found.samples, found.skipped)
        with self._refs:
            while self._samples() > self.most and len(self._held) > self._readers:
                self._held.popitem(last=False)
        return found.samples, found.share

    def _started(self, ordinal: int) -> tuple[Any, Any]:
        with self._refs:
            if ordinal not in self._held:
                block, measured = self._task.remote(self._data, ordinal)
                self._held[ordinal] = block, measured
            self._held.move_to_end(ordinal)
            return self._held[ordinal]

    def _samples(self) -> int:
        return sum(self.read.samples.get(ordinal, 0) for ordinal in self._held)


class SharedBlocks:
    """The blocks as a process of the cluster has them: the few that it asked for last are mapped."""

    def __init__(self, keeper: Any, candidates: Candidates) -> None:
        self.keeper, self.candidates = keeper, candidates
        self.room: int | None = ray.get(keeper.ready.remote())
        self._held = Recent(Shelf.holds(candidates.recipe))

    @property
    def read(self) -> Read:
        found: Read = ray.get(self.keeper.known.remote())
        return found

    def names(self) -> list[str]:
        return self.candidates.names()

    def extent(self, epoch: int, first: int) -> Extent:
        found: Extent = ray.get(self.keeper.window.remote(epoch, first))
        return found

    def block(self, ordinal: int) -> Block:
        found = self._held.get(ordinal)
        for attempt in range(ASKED_AGAIN):
            if found is not None:
                break
            (reference,) = ray.get(self.keeper.reference.remote(ordinal))
            try:
                found = ray.get(reference)
            except (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError):
                if attempt + 1 == ASKED_AGAIN:
                    raise
                self.keeper.forget.remote(ordinal)
        assert found is not None
        self._held.put(ordinal, found)
        return found
