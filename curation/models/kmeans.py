"""Spherical k-means: centres of unit length that gather vectors by cosine. Deterministic for a seed and one thread.

SemDeDup, cluster balancing and image-based filtering (DataComp) all cut a corpus into neighbourhoods. Centres are
found on a sample (64 or so vectors a centre are enough) and the corpus is assigned in a stream afterwards.
Cost: rounds * N * K * D multiply-adds to find, N * K * D to assign; memory [CHUNK, K] floats beside the sample.
Source: Dhillon and Modha 2001; SemDeDup (2303.09540), section 3.1, with k-means++'s spread start replaced by a draw
without replacement, which at tens of thousands of centres is as good and costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 4096
ROUNDS = 20


def find_centres(vectors: Tensor, clusters: int, *, seed: int = 0, rounds: int = ROUNDS) -> Tensor:
    """Centres, float32 `[min(clusters, N), D]` of unit length, of unit `vectors` `[N, D]`.

    A cluster that loses all its vectors starts again at the vector that is farthest from its own centre.
    """
    if not len(vectors) or clusters < 1:
        raise ValueError(f"{clusters} clusters of {len(vectors)} vectors: both must be at least 1")
    vectors = vectors.float()
    start = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:clusters]
    centres = vectors[start.sort().values].clone()
    before = torch.full((len(vectors),), -1)
    for _ in range(rounds):
        nearest, similarity = assign(vectors, centres)
        if torch.equal(nearest, before):
            break
        before = nearest
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        empty = torch.bincount(nearest, minlength=len(centres)) == 0
        sums[empty] = vectors[similarity.argsort(stable=True)[: int(empty.sum())]]
        centres = normalize(sums, dim=-1)
    return centres


def assign(vectors: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each vector, int64 `[N]` (the first of equals), and its cosine, float32 `[N]`."""
    found = [(part.float() @ centres.T).max(1) for part in torch.split(vectors, CHUNK)]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])
