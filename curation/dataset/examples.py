"""Small datasets decoded once into memory, so that an epoch needs no reading and no decoding.

A sample takes 12 kB at 64 px: 170,000 samples fit into the default budget of 2 GiB. Larger sets are streamed
(`stream_batches`).
"""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from threading import Event

import numpy as np
import torch
from torch.utils.data import DataLoader

from curation.core.origins import TRUSTED
from curation.dataset.loader import ORIGIN_REASON, ListedShard, SampleStream
from curation.models.batches import BUDGET, Examples, Tokenize, TrainingBatch

PIECE = 32  # samples that a worker returns at a time
GROWTH = 1024  # samples by which the array grows at a time


class StoppedError(Exception):
    """The samples are no longer needed."""


def gather(
    stream: SampleStream,
    *,
    budget: int = BUDGET,
    limit: int | None = None,
    advance: Callable[[int], None] = lambda samples: None,
    stop: Event | None = None,
) -> Examples | None:
    """Read all (or the first `limit`) samples of `stream` into memory; None when they exceed `budget` bytes of pixels.

    The array grows in place, so the pixels are in memory once. `advance` is called after every `GROWTH` samples. Raises
    `StoppedError` once another thread has set `stop`.
    """
    room = budget // (stream.size * stream.size * 3)
    pixels = np.empty((0, stream.size, stream.size, 3), np.uint8)
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    count = 0
    for example in stream:
        if stop is not None and stop.is_set():
            raise StoppedError
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
    stream: SampleStream,
    limit: int,
    advance: Callable[[int], None] = lambda samples: None,
    origins: Sequence[str] = TRUSTED,
) -> tuple[Examples, Counter[str]]:
    """Read at most `limit` samples (or as many as fit into `BUDGET`) of a stream into memory, for an evaluation.

    Only samples of these `origins` are read; the others count as skipped, and a line on stderr reports them.

    Shards are read in the order of `mixed`, and each contributes at most a sixteenth of the samples (an equal part of
    fewer than 16 shards), so that all sources are represented. When these are too few, shards with more samples are
    read again and contribute more, equally. Returns the samples, and the number of skipped ones by reason.
    """
    shards, size = stream.shards, stream.size
    limit = min(limit, BUDGET // (size * size * 3))
    most = math.ceil(limit / max(1, min(len(shards), 16)))
    found: list[Examples] = []
    skipped: list[Counter[str]] = []
    left = limit

    def read(shard: ListedShard, samples: int, advance: Callable[[int], None]) -> tuple[Examples, Counter[str]]:
        one = stream.over([shard])
        one.origins = origins
        some = gather(one, limit=samples, advance=advance)
        assert some is not None, "the limit fits into the budget"
        return some, one.skipped

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
    flaws = sum(skipped, Counter[str]())
    if line := left_out_line(flaws):
        print(line, file=sys.stderr, flush=True)
    return Examples.concatenated([Examples.empty(size), *found]), flaws


def left_out_of(skipped: Mapping[str, int]) -> dict[str, int]:
    """Return the samples that an evaluation leaves out by origin, from the skipped ones by reason."""
    return {
        reason.removeprefix(ORIGIN_REASON): count
        for reason, count in sorted(skipped.items())
        if reason.startswith(ORIGIN_REASON)
    }


def left_out_line(skipped: Mapping[str, int]) -> str:
    """Return the line that reports which samples an evaluation leaves out by their origin; "" for none."""
    listed = ", ".join(f"{origin} {count:,}" for origin, count in left_out_of(skipped).items())
    fix = "`--origins`, or `evaluation_origins` of a recipe, names more"
    return f"left out of the samples to evaluate on, by origin: {listed}; {fix}" if listed else ""


def mixed(shards: Sequence[ListedShard]) -> list[ListedShard]:
    """Order shards by a hash, so that the first few are a mixture whatever the names are ordered by."""
    return sorted(shards, key=lambda shard: sha256(repr(shard.ref.content).encode()).digest())


def stream_batches(stream: SampleStream, tokenize: Tokenize, batch: int, workers: int = 0) -> Iterator[TrainingBatch]:
    """Yield batches of `batch` samples read from shards, without end; the rest of an epoch begins the next one's.

    Ends after an epoch with fewer samples than a batch, since a batch would contain samples twice. `workers`: processes
    that read, 0 for none. They return `PIECE` samples in turns, and the batches are assembled here, so that no worker
    needs a whole batch and no sample is left out.
    """
    held: list[TrainingBatch] = []
    count = 0
    while True:
        seen = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # about more workers than cores
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
