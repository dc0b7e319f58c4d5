"""The pairs that a training reads: in memory where they fit, streamed from shards where they don't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from curation.core import skipped
from curation.core.errors import EmptyCorpusError
from curation.core.progress import progress
from curation.dataset.examples import gather, stream_batches
from curation.dataset.loader import ListedShard, Part, SampleStream
from curation.dataset.random_subset import Subset
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.models import preprocess_for
from curation.models.batches import Examples, TrainingBatch
from curation.models.tokenizer import tokenizer_for
from curation.selection.pool import Pool
from curation.shards.images import DecodeLimits

WORKERS = 4  # that read and decode what is streamed: the order of samples depends on it, so on every machine


class Samples(NamedTuple):
    """What is trained on: shards, which of their samples (None: all), and what a picture may be."""

    shards: Sequence[ListedShard]
    subset: Subset | None = None
    limits: DecodeLimits | None = None  # None: those of the snapshot, or the defaults
    weights: SampleWeights = ALIKE

    def stream(self, model: str, *, part: Part, holdout: float, seed: int = 0) -> SampleStream:
        """A part of them as `model` looks at them, each once, in their order."""
        view = preprocess_for(model)
        return SampleStream(
            self.shards, size=view.size, mode=view.mode, shuffle=0, seed=seed, part=part, holdout=holdout,
            subset=self.subset, limits=self.limits,
        )  # fmt: skip


@dataclass(frozen=True)
class PreparedPairs:
    """One part of a corpus as `model` looks at it; `examples` is None where it is too large for memory."""

    url: str
    model: str
    stream: SampleStream
    examples: Examples | None
    weights: SampleWeights = ALIKE

    @property
    def count(self) -> int | None:
        """How many there are, where that is known."""
        return self.stream.samples if self.examples is None else len(self.examples)

    def batches(self, size: int) -> Iterator[TrainingBatch]:
        """Endless batches, uniformly drawn, each pair once an epoch, or as often as it weighs."""
        tokenize = tokenizer_for(self.model)
        if self.examples is None:
            return stream_batches(self._shuffled(), tokenize, size, workers=WORKERS)
        if len(self.examples) < size:  # or one batch would have a pair twice, as if it were another
            told = skipped.summary(self.stream.skipped)
            text = f"{self.url} has {len(self.examples)} samples to train on (skipped: {told})"
            raise EmptyCorpusError(f"{text}, and a batch takes {size}", fix="more data, or a smaller --batch")
        weights = self.weights.of(self.examples.uids) if self.weights else None
        return Pool.of(self.examples, tokenize, self.stream.seed, weights=weights).batches(size)

    def _shuffled(self) -> SampleStream:
        as_read = self.stream
        return SampleStream(
            as_read.shards, size=as_read.size, mode=as_read.mode, shuffle=10_000, seed=as_read.seed,
            part=as_read.part, holdout=as_read.holdout, subset=as_read.subset, limits=as_read.limits,
            weights=self.weights,
        )  # fmt: skip


def read_pairs(
    label: str, url: str, samples: Samples, *, model: str, part: Part, holdout: float, seed: int, streamed: bool
) -> PreparedPairs:
    """Read a part of the samples at `url`; `label` is what the progress is called. `streamed`: none is read yet,
    whether or not they would fit."""
    pairs = PreparedPairs(
        url, model, samples.stream(model, part=part, holdout=holdout, seed=seed), None, samples.weights
    )
    if streamed:
        return pairs
    with progress(label, None) as advance:
        return replace(pairs, examples=gather(pairs.stream, advance=advance))


def side_by_side(one: Iterator[TrainingBatch], other: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """Batches whose first rows are a batch of `one`, and whose last rows are a batch of `other`."""
    for batches in zip(one, other, strict=False):
        yield TrainingBatch(*(torch.cat(columns) for columns in zip(*batches, strict=True)))
