"""Where candidates come from: super-batches drawn uniformly from samples in memory, each sample once an epoch, or as
often as it weighs.

A pool's place is two numbers, so a run that is resumed goes on with the very candidate after the last one. The order of
an epoch depends on the seed and the epoch's number alone. Cost: 8 bytes a sample for the order, and as many for its
weight, besides the samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

from curation.errors import EmptyCorpusError
from curation.examples import Batch, Examples, Tokenize
from curation.weights import drawn


class SuperBatch(NamedTuple):
    """B candidates: their rows in the pool, int64 `[B]`, and what models see of them."""

    rows: Tensor
    batch: Batch

    def take(self, chosen: Tensor) -> SuperBatch:
        """The sub-batch of the candidates at `chosen`."""
        return SuperBatch(self.rows[chosen], Batch(*(part[chosen] for part in self.batch)))


class Place(NamedTuple):
    """Where a pool goes on: candidates already drawn of an epoch."""

    epoch: int = 0
    drawn: int = 0

    def of(self, count: int, size: int) -> Place:
        """Where the next `count` candidates of a pool of `size` begin: here, or with the next epoch if few are left."""
        return self if self.drawn + count <= size else Place(self.epoch + 1, 0)

    def after(self, count: int) -> Place:
        """The place behind `count` candidates that begin here."""
        return Place(self.epoch, self.drawn + count)


class Pool:
    """Uniform candidates, each once an epoch. A tail too short for a super-batch is left out; every
    epoch draws its order anew, so the samples of the tail change with it. `targets`: a tokenizer for the captions, or
    what belongs to each picture, row by row. With `weights` (float64 `[N]`), an epoch has each sample as often as its
    weight says (`curation.weights`), and N in all."""

    def __init__(
        self, examples: Examples, targets: Tokenize | Tensor, seed: int = 0, weights: Tensor | None = None
    ) -> None:
        if not len(examples):
            raise EmptyCorpusError("there are no samples to draw candidates from", fix="check the corpus or snapshot")
        self.examples, self.seed, self.weights, self.place = examples, seed, weights, Place()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # an object store's; never is
            self._pixels = torch.from_numpy(examples.pixels)
        self._targets = targets if isinstance(targets, Tensor) else targets(examples.captions)
        self._order: tuple[int, Tensor] | None = None  # of an epoch

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, count: int) -> SuperBatch:
        """The next `count` candidates (all there are, if they are fewer). No other draw of this epoch returns them, but
        for samples that weigh more than others."""
        count = min(count, len(self))
        begin = self.place.of(count, len(self))
        self.place = begin.after(count)
        return self.at(begin, count)

    def at(self, place: Place, count: int) -> SuperBatch:
        """The `count` candidates that begin at `place`, whatever was drawn so far."""
        return self.rows(self._epoch(place.epoch)[place.drawn : place.drawn + count])

    def batches(self, size: int) -> Iterator[Batch]:
        """Endless batches of `size`: uniform training."""
        while True:
            yield self.draw(size).batch

    def rows(self, rows: Tensor) -> SuperBatch:
        """Given rows as a super-batch, for a replay."""
        return SuperBatch(rows, Batch(self._pixels[rows], self._targets[rows]))

    def _epoch(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = generator_of(self.seed, "epoch", epoch)
            if self.weights is None:
                self._order = epoch, torch.randperm(len(self), generator=generator)
            else:
                self._order = epoch, drawn(self.weights, generator)
        return self._order[1]


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator whose seed is these parts' hash: any process, at any step, makes the same one from nothing."""
    seed = sha256("\0".join(map(str, parts)).encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
