"""A small dataset, decoded once and kept in memory, so that an epoch costs no reading and no decoding.

12 kB a sample at 64 px: 170,000 samples in the default budget of 2 GiB. Larger sets are streamed (`stream_batches`).
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

import numpy as np
import torch
from torch.utils.data import DataLoader

from curation.dataset.loader import ListedShard, SampleStream
from curation.models.batches import BUDGET, Examples, Tokenize, TrainingBatch

PIECE = 32  # samples that a worker gives at a time
GROWTH = 1024  # samples by which an array grows at a time


def gather(
    stream: SampleStream,
    *,
    budget: int = BUDGET,
    limit: int | None = None,
    advance: Callable[[int], None] = lambda samples: None,
) -> Examples | None:
    """All (or the first `limit`) samples of `stream` in memory; None when they don't fit into `budget` bytes.

    Memory: theirs once, in an array that grows where it lies. `advance` is told of every `GROWTH` samples.
    """
    room = budget // (stream.size * stream.size * 3)
    pixels = np.empty((0, stream.size, stream.size, 3), np.uint8)
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    count = 0
    for example in stream:
        if limit is not None and count >= limit:
            break
        if count >= room:
            return None
        if count == len(pixels):
            pixels.resize((count + GROWTH, *pixels.shape[1:]), refcheck=False)
        pixels[count] = example.pixels
        for column, value in zip(columns, example[1:], strict=True):
            column.append(value)
        count += 1
        if count % GROWTH == 0:
            advance(GROWTH)
    advance(count % GROWTH)
    pixels.resize((count, *pixels.shape[1:]), refcheck=False)
    return Examples(pixels, *columns)


def gather_some(
    shards: Sequence[ListedShard],
    stream_of: Callable[[list[ListedShard]], SampleStream],
    limit: int,
    advance: Callable[[int], None] = lambda samples: None,
) -> tuple[Examples, Counter[str]]:
    """At most `limit` samples of many shards (or what fits into `BUDGET`), for an evaluation, and how many were
    skipped, by reason.

    Shards are read `mixed`, and of each no more than a sixteenth (or its part, where they are fewer): so all sources
    have their share. Where that makes too few, those that have more give more, alike; they are read again for it.
    """
    size = stream_of([]).size
    limit = min(limit, BUDGET // (size * size * 3))
    most = math.ceil(limit / max(1, min(len(shards), 16)))
    found: list[Examples] = []
    skipped: list[Counter[str]] = []
    left = limit

    def read(shard: ListedShard, samples: int, advance: Callable[[int], None]) -> tuple[Examples, Counter[str]]:
        stream = stream_of([shard])
        some = gather(stream, limit=samples, advance=advance)
        assert some is not None, "the limit fits"
        return some, stream.skipped

    order = mixed(shards)
    for shard in order:
        if not left:
            break
        some, flaws = read(shard, min(most, left), advance)
        found.append(some)
        skipped.append(flaws)
        left -= len(some)
    while left and (more := [place for place, some in enumerate(found) if len(some) == most]):
        most += math.ceil(left / len(more))
        for place in more:
            had = len(found[place])
            found[place], skipped[place] = read(order[place], min(most, had + left), lambda samples: None)
            left -= len(found[place]) - had
            advance(len(found[place]) - had)
    return Examples.joined([Examples.none(size), *found]), sum(skipped, Counter[str]())


def mixed(shards: Sequence[ListedShard]) -> list[ListedShard]:
    """Shards in the order of their hashes: whatever their names are ordered by, the first few have some of all."""
    return sorted(shards, key=lambda shard: sha256(repr(shard.ref.content).encode()).digest())


def stream_batches(stream: SampleStream, tokenize: Tokenize, batch: int, workers: int = 0) -> Iterator[TrainingBatch]:
    """Endless batches read from shards; what an epoch leaves over begins the next one's. Ends after an epoch that has
    no whole batch: another would have samples twice.

    Workers give what they read by `PIECE` in turns, from which batches are made here: so a batch needs no worker that
    has all of it, and no sample is left out.
    """
    held: list[TrainingBatch] = []
    count = 0
    while True:
        seen = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more of them than cores: as everywhere
            loader = iter(DataLoader(stream, batch_size=min(batch, PIECE), num_workers=workers))
        for pixels, captions, _, _ in loader:
            held.append(TrainingBatch(pixels, tokenize(captions)))
            seen, count = seen + len(pixels), count + len(pixels)
            if count >= batch:
                whole = [torch.cat(column) for column in zip(*held, strict=True)]
                yield TrainingBatch(*(column[:batch] for column in whole))
                held, count = [TrainingBatch(*(column[batch:] for column in whole))], count - batch
        if seen < batch:
            return
        stream.set_epoch(stream.epoch + 1)
