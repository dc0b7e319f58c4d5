"""The pairs of a training: in memory where they fit, streamed from shards where they don't."""

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

WORKERS = 4  # reading and decoding processes; the order of streamed samples depends on it, so it is fixed


class Samples(NamedTuple):
    """Samples to train on: shards, the part of their samples (None: all), decoding limits, and sample weights."""

    shards: Sequence[ListedShard]
    subset: Subset | None = None
    limits: DecodeLimits | None = None  # None: the snapshot's, or the defaults
    weights: SampleWeights = ALIKE

    def stream(self, model: str, *, part: Part, holdout: float, seed: int = 0) -> SampleStream:
        """Return a stream of one part of the samples, decoded for `model`, each once, in their order.

        holdout: share of names in the held-out part.
        """
        view = preprocess_for(model)
        return SampleStream(
            self.shards, size=view.size, mode=view.mode, shuffle=0, seed=seed, part=part, holdout=holdout,
            subset=self.subset, limits=self.limits,
        )  # fmt: skip


@dataclass(frozen=True)
class PreparedPairs:
    """One part of a corpus, decoded for `model`; `examples` is None where it exceeds memory."""

    url: str
    model: str
    stream: SampleStream
    examples: Examples | None
    weights: SampleWeights = ALIKE

    @property
    def count(self) -> int | None:
        """The number of samples, or None while it is unknown."""
        return self.stream.samples if self.examples is None else len(self.examples)

    def batches(self, size: int) -> Iterator[TrainingBatch]:
        """Yield batches of `size` without end: uniformly drawn, each pair once an epoch, or as often as its weight.

        Raises `EmptyCorpusError` for fewer samples in memory than a batch.
        """
        tokenize = tokenizer_for(self.model)
        if self.examples is None:
            return stream_batches(self._shuffled(), tokenize, size, workers=WORKERS)
        if len(self.examples) < size:  # a batch would repeat a pair, as its own negative
            reasons = skipped.summary(self.stream.skipped)
            text = f"{self.url} has {len(self.examples)} samples to train on (skipped: {reasons})"
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
    """Read one part of the samples at `url` into memory, if they fit.

    label: of the progress. seed: of the order of samples. streamed: reads none now, even if they would fit.
    """
    pairs = PreparedPairs(
        url, model, samples.stream(model, part=part, holdout=holdout, seed=seed), None, samples.weights
    )
    if streamed:
        return pairs
    with progress(label, None) as advance:
        return replace(pairs, examples=gather(pairs.stream, advance=advance))


def side_by_side(one: Iterator[TrainingBatch], other: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """Yield batches that concatenate a batch of `one` and a batch of `other`."""
    for batches in zip(one, other, strict=False):
        yield TrainingBatch(*(torch.cat(columns) for columns in zip(*batches, strict=True)))
