"""`curate proxy vectors`: pairs of a corpus through a dual encoder, as a file that scores are measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from curation.errors import EmptyCorpusError
from curation.loader import Example, SampleStream, Shard, open_shards
from curation.models.dual import DualEncoder, load_dual_encoder
from curation.models.vectors import vectors_file
from curation.models.weights import Weights
from curation.store import open_store
from jobs.progress import progress

MOST_SHARDS = 64  # that are read: a sample of 4,096 pairs need not open a million shards
BATCH = 256


def write(*, data: str, model: str, weights: str, sha256: str, samples: int, out: str) -> dict[str, Any]:
    """Encode up to `samples` pairs of `data` and put the file at `out`; returns its URL, sha256 and size."""
    encoder = load_dual_encoder(model, Weights(weights, sha256))
    shards = drawn(open_shards(data), MOST_SHARDS)
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    with progress("Encoding", samples) as advance:
        for examples in _batches(pairs(shards, samples, encoder)):
            pixels = np.stack([example.pixels for example in examples])
            parts.append((encoder.image(pixels), encoder.text([example.caption for example in examples])))
            advance(len(examples))
    if not parts:
        raise EmptyCorpusError(f"{data} has no sample that can be used")
    image, text = (torch.cat(side) for side in zip(*parts, strict=True))
    body = vectors_file(image, text, sha256)
    name = _hash(body)
    store, key = open_store(out), f"vectors-{name[:16]}.safetensors"
    store.put(key, body)
    return {"url": store.location(key), "sha256": name, "vectors": len(image), "width": image.shape[1]}


def drawn(shards: list[Shard], most: int) -> list[Shard]:
    """`most` of the shards, by a hash of their keys and etags: the same ones everywhere."""
    return sorted(shards, key=lambda shard: _hash(f"{shard.ref.key} {shard.ref.etag}".encode()))[:most]


def pairs(shards: list[Shard], samples: int, encoder: DualEncoder) -> Iterator[Example]:
    """Up to `samples` pairs: as many from the beginning of each shard, and of the last ones what the first lacked."""
    view, left = encoder.preprocess, samples
    for number, shard in enumerate(shards):
        share = -(-left // (len(shards) - number))
        for example in islice(SampleStream([shard], size=view.size, mode=view.mode, shuffle=0), share):
            left -= 1
            yield example


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while batch := list(islice(examples, BATCH)):
        yield batch


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
