"""`curate proxy vectors` and `clusters`: a sample of a corpus through a dual encoder, to measure scores against."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from curation.core.errors import EmptyCorpusError
from curation.core.progress import progress
from curation.core.skipped import summary
from curation.dataset.loader import Example, ListedShard, SampleStream
from curation.dataset.open_shards import open_shards
from curation.models.devices import pick_device
from curation.models.dual import DualEncoder, load_dual_encoder
from curation.models.kmeans import find_centres
from curation.models.vectors import centres_file, vectors_file
from curation.models.weights import Weights
from curation.shards import images
from curation.storage.store import open_store

SHARDS = 64  # that are drawn from at once: a sample of 4,096 pairs need not open a million shards
BATCH = 256
A_CENTRE = 64  # vectors that are enough to place one


def write_vectors(
    *, data: str, model: str, weights: str, sha256: str, samples: int, device: str = "auto", out: str
) -> dict[str, Any]:
    """Encode up to `samples` pairs of `data` and put the file at `out`; returns its URL, sha256 and size."""
    encoder = load_dual_encoder(model, Weights(weights, sha256), pick_device(device))
    (image, text), skipped = encode(data, encoder, samples, ("image", "text"))
    found = _put(out, "vectors", vectors_file(image, text, sha256))
    return {**found, "vectors": len(image), "width": image.shape[1], "skipped": dict(skipped)}


def write_clusters(
    *,
    data: str,
    model: str,
    weights: str,
    sha256: str,
    clusters: int,
    samples: int | None,
    of: str,
    seed: int,
    device: str = "auto",
    out: str,
) -> dict[str, Any]:
    """Find `clusters` centres among `samples` images (or captions) of `data`, and put their file at `out`."""
    encoder = load_dual_encoder(model, Weights(weights, sha256), pick_device(device))
    (vectors,), skipped = encode(data, encoder, samples or A_CENTRE * clusters, (of,))
    centres = find_centres(vectors.cpu(), clusters, seed=seed)
    found = _put(out, "centres", centres_file(centres, of, sha256))
    return {**found, "clusters": len(centres), "vectors": len(vectors), "of": of, "skipped": dict(skipped)}


def encode(
    data: str, encoder: DualEncoder, samples: int, sides: Sequence[str]
) -> tuple[list[torch.Tensor], Counter[str]]:
    """Vectors of up to `samples` pairs of `data`, [N, D] for each of `sides` (image, text); and how many samples were
    skipped, by reason."""
    shards, skipped = open_shards(data), Counter[str]()
    parts: dict[str, list[torch.Tensor]] = {side: [] for side in sides}
    with progress("Encoding", samples) as advance:
        for examples in _batches(pairs(shards, samples, encoder, skipped)):
            if "image" in parts:
                parts["image"].append(encoder.image(np.stack([example.pixels for example in examples])))
            if "text" in parts:
                parts["text"].append(encoder.text([example.caption for example in examples]))
            advance(len(examples))
    if not all(parts.values()):
        raise EmptyCorpusError(f"{data} has no sample that can be used (skipped: {summary(skipped)})")
    return [torch.cat(parts[side]) for side in sides], skipped


def _put(out: str, name: str, body: bytes) -> dict[str, Any]:
    """Put a file that is named by its content; its URL and sha256."""
    sha = _hash(body)
    store, key = open_store(out), f"{name}-{sha[:16]}.safetensors"
    store.put(key, body)
    return {"url": store.location(key), "sha256": sha}


def pairs(shards: list[ListedShard], samples: int, encoder: DualEncoder, skipped: Counter[str]) -> Iterator[Example]:
    """Up to `samples` pairs, the same ones everywhere: of the first `SHARDS` shards by a hash of their keys and etags,
    those whose uids have the smallest hashes; of more shards where these have too few.

    Shards are read twice, and only what is drawn is decoded. `skipped` counts, by reason, what of these shards can't be
    read, and what of the draw can't be decoded.
    """
    view, left = encoder.preprocess, samples
    order = sorted(shards, key=lambda shard: _hash(f"{shard.ref.key} {shard.ref.etag}".encode()))
    while order and left > 0:
        some, order = order[:SHARDS], order[SHARDS:]
        stream = SampleStream(some, size=view.size, mode=view.mode, shuffle=0)
        hashes = sorted(hashed(place) for place in stream.places(counted=True))
        unread = stream.skipped
        while hashes and left > 0:  # again, where some could not be decoded
            share, hashes = hashes[:left], hashes[left:]
            stream.subset = _Between(share[0], share[-1])
            for example in stream:
                left -= 1
                yield example
        skipped += unread + undecoded(stream.skipped)  # what can't be read was met again in every pass


def undecoded(skipped: Counter[str]) -> Counter[str]:
    """Of all reasons, those of pictures."""
    return Counter({reason: count for reason, count in skipped.items() if reason in images.REASONS})


class _Between(NamedTuple):
    """The samples whose uids have hashes from `first` to `last`."""

    first: str
    last: str

    def holds(self, uid: str) -> bool:
        return self.first <= hashed(uid) <= self.last


def hashed(uid: str) -> str:
    """The key by which samples are drawn."""
    return _hash(uid.encode())


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while batch := list(islice(examples, BATCH)):
        yield batch


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
