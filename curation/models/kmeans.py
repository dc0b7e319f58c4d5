"""Spherical k-means: centres of unit length that group vectors by cosine. Deterministic for one seed and one thread.

SemDeDup, cluster balancing and DataComp's image-based filtering partition a corpus into neighbourhoods. Centres are
computed from a sample (about 64 vectors a centre suffice); the corpus is then assigned as a stream.
Cost: rounds * N * K * D multiply-adds to find centres, N * K * D to assign; [CHUNK, K] floats of memory and the sample.
Source: Dhillon and Modha 2001; SemDeDup (2303.09540), section 3.1. The initial centres are drawn without replacement
instead of by k-means++: as good at tens of thousands of centres, and free.
It is our own code because no dependency has a spherical k-means, and 30 lines don't justify another one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 4096
ROUNDS = 20


def find_centres(vectors: Tensor, clusters: int, *, seed: int = 0, rounds: int = ROUNDS) -> Tensor:
    """Compute centres of unit length, float32 `[min(clusters, N), D]`, of unit `vectors` `[N, D]`.

    An empty cluster restarts at the vector with the lowest cosine to its own centre. `rounds`: iterations at most; the
    loop ends when no vector changes its centre. Raises `ValueError` without vectors or clusters.
    """
    if not len(vectors) or clusters < 1:
        raise ValueError(f"k-means needs at least 1 cluster and 1 vector, not {clusters} and {len(vectors)}")
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
    """Index of each vector's nearest centre (int64 `[N]`, the lowest of equals) and its cosine (float32 `[N]`)."""
    found = [(part.float() @ centres.T).max(1) for part in torch.split(vectors, CHUNK)]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])
