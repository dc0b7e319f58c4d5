"""The blocks of a pool, one for each shard, and its windows: rows, positions, and where the next candidates begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from curation.core.errors import EmptyCorpusError, UserError
from curation.shards.images import Pixels

_ORDINAL = 32  # bits below the shard's ordinal


class PoolPosition(NamedTuple):
    """A position in a pool: candidates already drawn of a window, which begins with the `first` shard of its epoch."""

    epoch: int = 0
    drawn: int = 0
    first: int = 0

    def after(self, count: int) -> PoolPosition:
        """Return the position after `count` candidates that begin here."""
        return self._replace(drawn=self.drawn + count)


class Extent(NamedTuple):
    """A window: its shards, its number of candidates, and the first shard of the next window of the epoch."""

    ordinals: tuple[int, ...]
    size: int
    next: int | None = None


Rows = TypeVar("Rows", int, Tensor, "np.ndarray[Any, Any]")


def joined(ordinals: Rows, places: Rows) -> Rows:
    """Return the rows of samples with these indices in the blocks of these shards."""
    found: Rows = (ordinals << _ORDINAL) | places
    return found


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Return the ordinals of shards, and the indices in their blocks, of rows."""
    return rows >> _ORDINAL, rows & ((1 << _ORDINAL) - 1)


def begin(
    place: PoolPosition, count: int, extent: Callable[[int, int], Extent | None], last: int | None = None
) -> tuple[PoolPosition, int]:
    """Return the position of the next `count` candidates, and their number: fewer, if the only window has fewer.

    extent: returns the window of an epoch that begins with a shard, or None while it is unknown: then the result is
    that window and 0, to continue from there. last: the last epoch to search; by default the one after `place`'s.
    Raises `UserError` if no window has as many candidates.
    """
    last = place.epoch + 1 if last is None else last
    while place.epoch <= last:
        found = extent(place.epoch, place.first)
        if found is None:
            return place, 0
        wanted = min(count, found.size) if place.first == 0 and found.next is None else count
        if 0 < wanted <= found.size - place.drawn:
            return place, wanted
        place = PoolPosition(place.epoch + 1) if found.next is None else PoolPosition(place.epoch, 0, found.next)
    raise too_large(count)


def too_large(count: int, room: int | None = None) -> UserError:
    """Return the error for super-batches of `count` candidates that exceed a window of `room` samples."""
    text = f"a super-batch of {count:,} candidates does not fit into a window" + (f" of {room:,}" if room else "")
    return UserError(text, fix="a larger `memory:`, or a smaller filtering ratio or batch")


@dataclass(frozen=True)
class Block:
    """The usable samples of one shard, as arrays of rows, which the processes of a machine can share."""

    pixels: Pixels  # uint8 [N, S, S, 3]
    targets: Tensor  # token ids int32 [N, L], or classes int64 [N]
    uids: np.ndarray[tuple[int], np.dtype[np.bytes_]]
    weights: Tensor | None = None  # float64 [N]: expected appearances in an epoch
    losses: Tensor | None = None  # float32 [N]: a reference's, from the score tables
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by which metrics group samples

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def share(self) -> float:
        """The number of candidates that an epoch draws from it."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    @property
    def fields_with_values(self) -> set[str]:
        """The fields of which some sample has a value."""
        return {name for name, values in self.fields.items() if any(values)}

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return int(self.pixels.nbytes + self.targets.nbytes + self.uids.nbytes)


class ReadCounts:
    """Counts of the shards that were read: samples of each, and skipped samples by reason."""

    def __init__(self) -> None:
        self.samples: dict[int, int] = {}
        self.largest = 0  # samples of a shard
        self.fields: set[str] = set()  # of which some sample has a value
        self._skipped: dict[int, Counter[str]] = {}

    def note(self, ordinal: int, samples: int, skipped: Counter[str], fields: Collection[str] = ()) -> None:
        self.samples[ordinal], self._skipped[ordinal] = samples, skipped
        self.largest = max(self.largest, samples)
        self.fields |= set(fields)

    def copy(self) -> ReadCounts:
        """Return a copy that does not change while threads go on reading."""
        found = ReadCounts()
        found.samples, found.largest, found._skipped = dict(self.samples), self.largest, dict(self._skipped)
        found.fields = set(self.fields)
        return found

    @property
    def skipped(self) -> Counter[str]:
        """Skipped samples by reason."""
        return sum(list(self._skipped.values()), Counter())  # a copy, since a thread may go on reading


class Blocks(Protocol):
    """The holder of the blocks: this process, or the object store of a cluster."""

    @property
    def room(self) -> int | None:
        """The largest number of samples of a window; None for a single window."""
        ...

    @property
    def read(self) -> ReadCounts:
        """The counts of what was read so far."""
        ...

    def names(self) -> Sequence[str]:
        """Return the name of every shard, by which another run recognises it."""
        ...

    def extent(self, epoch: int, first: int) -> Extent | None:
        """Return the window of an epoch that begins with its shard number `first`."""
        ...

    def block(self, ordinal: int) -> Block:
        """Return one block, read if it is not in memory."""
        ...


class Whole:
    """Blocks in memory, as a single window. Raises `EmptyCorpusError` without samples."""

    room = None

    def __init__(self, blocks: Mapping[int, Block]) -> None:
        self.blocks, self.read = blocks, ReadCounts()
        for ordinal, block in blocks.items():
            self.read.note(ordinal, len(block), Counter())
        self._extent = Extent(tuple(blocks), sum(map(len, blocks.values())))
        if not self._extent.size:
            raise EmptyCorpusError("there are no samples to draw candidates from", fix="check the corpus or snapshot")

    def names(self) -> list[str]:
        return list(map(str, self.blocks))

    def extent(self, epoch: int, first: int) -> Extent:
        return self._extent

    def block(self, ordinal: int) -> Block:
        return self.blocks[ordinal]
