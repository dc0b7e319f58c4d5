"""The pool of candidates: super-batches drawn uniformly, each sample once an epoch, or as often as its weight.

A block holds the usable samples of one shard. An epoch is drawn window by window: a window is as many blocks as fit
into memory. Every epoch draws a new order of shards, and all orders of samples within a window are equally likely. A
pool that fits into memory is one window. A super-batch comes from one window, so the tail of a window that is too short
for one is left out; the next epoch's windows differ.

A sample's row is `ordinal << 32 | index`: the shard's ordinal among all shards, and the sample's index in its block. A
pool's position is three numbers, so a resumed run continues with the next candidate. The order depends on the seed, the
epoch and the memory. Cost: 8 bytes a sample of the window for the order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from curation.dataset.sample_weights import weighted_order
from curation.models.batches import Examples, SuperBatch, Tokenize, TrainingBatch
from curation.selection.pool_blocks import Block, Blocks, PoolPosition, Whole, begin, joined, split


class Pool:
    """Candidates drawn uniformly from blocks, each once an epoch; with weights, as often as its weight."""

    def __init__(self, blocks: Blocks, seed: int = 0) -> None:
        self.blocks, self.seed, self.place = blocks, seed, PoolPosition()
        self._order: tuple[int, int, Tensor] | None = None  # epoch and first shard of a window, and its rows in order

    @classmethod
    def of(
        cls,
        examples: Examples,
        targets: Tokenize | Tensor,
        seed: int = 0,
        *,
        weights: Tensor | None = None,
        losses: Tensor | None = None,
    ) -> Pool:
        """Return a pool of samples in memory.

        targets: a tokenizer for the captions, or the target of each picture, `[N, ...]`. weights: float64 `[N]`.
        losses: a reference's, float32 `[N]`.
        """
        found = targets if isinstance(targets, Tensor) else targets(examples.captions)
        return cls(Whole({0: Block(examples.pixels, found, np.array(examples.uids, "S"), weights, losses)}), seed)

    def draw(self, count: int) -> SuperBatch:
        """Draw the next `count` candidates, or all of a smaller pool.

        No other draw of this epoch returns them, except samples with a weight above the mean.
        """
        return self.rows(self.draw_rows(count))

    def draw_rows(self, count: int) -> Tensor:
        """Draw as `draw` does, and return the rows alone, int64 `[count]`: nothing of the samples is copied."""
        place, count = begin(self.place, count, self.blocks.extent)
        assert count, "a window is read when it is asked for"
        self.place = place.after(count)
        return self.rows_at(place, count)

    def rows_at(self, place: PoolPosition, count: int) -> Tensor:
        """Return the rows of the `count` candidates that begin at `place`. Does not move the pool's position."""
        return self._window(place)[place.drawn : place.drawn + count]

    def batches(self, size: int) -> Iterator[TrainingBatch]:
        """Yield batches of `size` without end: uniform training."""
        while True:
            yield self.draw(size).batch

    def rows(self, rows: Tensor) -> SuperBatch:
        """Return the samples at rows, int64 `[B]`, as a super-batch.

        Cost: 15 us a shard, and two copies of the bytes by `index_select`, which takes a seventh of indexing's time.
        """
        order, parts = list[Tensor](), list[list[Tensor]]()
        for places, block, own in self._parts(rows):
            order.append(places)
            parts.append([column.index_select(0, own) for column in self._columns(block)])
        columns = [torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts, strict=True)]
        if len(parts) > 1:  # they are sorted by shard
            back = torch.argsort(torch.cat(order))
            columns = [column.index_select(0, back) for column in columns]
        pixels, targets, *losses = columns
        return SuperBatch(rows, TrainingBatch(pixels, targets.long()), losses[0] if losses else None)

    def targets(self, rows: Tensor) -> Tensor:
        """Return the targets at rows, int64 `[B, ...]`, without the pictures."""
        found: Tensor | None = None
        for places, block, own in self._parts(rows):
            values = block.targets[own].long()
            found = values.new_empty((len(rows), *values.shape[1:])) if found is None else found
            found[places] = values
        return torch.empty(0, dtype=torch.int64) if found is None else found

    def uids(self, rows: Tensor) -> list[str]:
        """Return the uids at rows."""
        found = [""] * len(rows)
        for places, block, own in self._parts(rows):
            for place, uid in zip(places.tolist(), block.uids[own.numpy()], strict=True):
                found[place] = uid.decode()
        return found

    def places(self) -> dict[str, int]:
        """Return the row of every sample in the first window, by uid: of all samples, if it is the only one."""
        extent = self.blocks.extent(0, 0)
        assert extent is not None
        return {
            uid.decode(): joined(ordinal, place)
            for ordinal in extent.ordinals
            for place, uid in enumerate(self.blocks.block(ordinal).uids)
        }

    def values(self, rows: Tensor) -> dict[str, list[str]]:
        """Return the fields at rows by which metrics group samples: name -> values."""
        found: dict[str, list[str]] = {}
        for places, block, own in self._parts(rows):
            for name, values in block.fields.items():
                column = found.setdefault(name, [""] * len(rows))
                for place, row in zip(places.tolist(), own.tolist(), strict=True):
                    column[place] = values[row]
        return found

    def _parts(self, rows: Tensor) -> Iterator[tuple[Tensor, Block, Tensor]]:
        """Yield for each shard of the rows: their positions among `rows`, the block, and the indices in it."""
        ordinals, own = split(rows)
        order = torch.argsort(ordinals, stable=True)
        each, counts = torch.unique_consecutive(ordinals[order], return_counts=True)
        places, indices = (torch.split(values, counts.tolist()) for values in (order, own[order]))
        for ordinal, *part in zip(each.tolist(), places, indices, strict=True):
            yield part[0], self.blocks.block(ordinal), part[1]

    @staticmethod
    def _columns(block: Block) -> list[Tensor]:
        """Return pixels, targets and losses, if there are any, of a block."""
        if block.pixels.flags.writeable:
            pixels = torch.from_numpy(block.pixels)
        else:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # object stores' are not
                pixels = torch.from_numpy(block.pixels)
        return [column for column in (pixels, block.targets, block.losses) if column is not None]

    def _window(self, place: PoolPosition) -> Tensor:
        """Return the rows of a window's candidates, in their order."""
        if self._order is None or self._order[:2] != (place.epoch, place.first):
            extent = self.blocks.extent(place.epoch, place.first)
            assert extent is not None, "a position belongs to a window that was asked for"
            blocks = [self.blocks.block(ordinal) for ordinal in extent.ordinals]
            ids = [
                joined(torch.tensor(ordinal), torch.arange(len(block)))
                for ordinal, block in zip(extent.ordinals, blocks, strict=True)
            ]
            generator = generator_of(self.seed, "epoch", place.epoch, *([place.first] if place.first else []))
            if any(block.weights is not None for block in blocks):
                each = [torch.ones(len(b), dtype=torch.float64) if b.weights is None else b.weights for b in blocks]
                order = weighted_order(torch.cat(each), generator, extent.size)
            else:
                order = torch.randperm(extent.size, generator=generator)
            self._order = place.epoch, place.first, torch.cat(ids)[order]
        return self._order[2]


def generator_of(*parts: int | str) -> torch.Generator:
    """Return a generator seeded with the hash of the parts: every process, at every step, can create the same one."""
    seed = sha256("\0".join(map(str, parts)).encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
