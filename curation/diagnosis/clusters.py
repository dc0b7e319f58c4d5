"""Groups of vectors: a projection to few dimensions, then k-means, whose k the silhouette chooses.

Few vectors are grouped, a model's failures: distances of all pairs fit in memory (8 n^2 bytes).

- `pca`: the directions of the largest variance. It is linear, exact and takes milliseconds.
- `umap`: keeps neighbourhoods (1802.03426), with the settings of 2109.12347: 10 dimensions, 5 neighbours, minimum
  distance 0. It needs the extra `diagnosis`, and a minute on the first call, while it compiles.

K-means is scipy's with the start of k-means++ (Arthur and Vassilvitskii 2007), the best of `TRIES` starts; the centres
of `curation.models.kmeans` compare by cosine, which means nothing in UMAP's coordinates.
Silhouette: Rousseeuw (1987).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.core.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Transform = Callable[[Floats], Floats]  # vectors [N, D] -> coordinates [N, d]

DIMENSIONS = 10  # of a projection
NEIGHBOURS = 5  # of UMAP
MOST_CLUSTERS = 9
TRIES = 10
ROUNDS = 50


@dataclass(frozen=True)
class Clusters:
    """Centres `[k, d]`, and the mean silhouette of each k that was tried."""

    centres: Floats
    silhouettes: Mapping[int, float]

    def nearest(self, coordinates: Floats) -> Ints:
        """Return the index of the nearest centre of each row, the lowest of equals."""
        from scipy.spatial.distance import cdist

        found: Ints = cdist(coordinates, self.centres).argmin(1)
        return found


def project_pca(vectors: Floats, seed: int) -> tuple[Floats, Transform]:
    """Return coordinates of vectors `[N, D]` on at most `DIMENSIONS` principal axes, and the map of other vectors."""
    mean = vectors.mean(0)
    axes = np.linalg.svd(vectors - mean, full_matrices=False)[2][:DIMENSIONS]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # the sign is arbitrary
    return (vectors - mean) @ axes.T, lambda others: (others - mean) @ axes.T


def project_umap(vectors: Floats, seed: int) -> tuple[Floats, Transform]:
    """Return UMAP's coordinates of vectors `[N, D]`, and the map of other vectors. Raises `UserError` without UMAP."""
    try:
        from umap import UMAP
    except ImportError:
        fix = "pip install 'tutelage[diagnosis]', or use the projection pca"
        raise UserError("the projection umap needs the package umap-learn", fix=fix) from None
    import warnings

    neighbours = min(NEIGHBOURS, len(vectors) - 1)
    made = UMAP(n_components=DIMENSIONS, n_neighbors=neighbours, min_dist=0.0, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the settings that are asked for here
        made.fit(vectors)
    return made.embedding_.astype(np.float64), lambda others: made.transform(others).astype(np.float64)


#: name -> projection: (vectors, seed) to their coordinates and the map of other vectors.
PROJECTIONS: Mapping[str, Callable[[Floats, int], tuple[Floats, Transform]]] = {
    "pca": project_pca,
    "umap": project_umap,
}


def find_clusters(coordinates: Floats, *, most: int = MOST_CLUSTERS, least: int = 2, seed: int = 0) -> Clusters:
    """Return the clusters of coordinates `[N, d]` with the largest mean silhouette, k from `least` to `most`.

    The smallest k of equals. A k for which k-means finds an empty cluster in every try is left out. Raises `ValueError`
    without at least `least` different rows.
    """
    found: dict[int, tuple[float, Floats]] = {}
    for k in range(least, min(most, len(coordinates) - 1) + 1):
        centres = _k_means(coordinates, k, seed)
        if centres is not None:
            found[k] = silhouette(coordinates, Clusters(centres, {}).nearest(coordinates)), centres
    if not found:
        raise ValueError(f"{len(coordinates)} vectors don't make {least} clusters")
    best = max(found, key=lambda k: (found[k][0], -k))
    return Clusters(found[best][1], {k: value for k, (value, _) in found.items()})


def silhouette(coordinates: Floats, groups: Ints) -> float:
    """Return the mean of (b - a) / max(a, b) over rows: a, the mean distance to the own group, b, to the next one.

    0 for a row that is alone in its group, and for all rows if there is one group.
    """
    from scipy.spatial.distance import cdist

    names, own = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return 0.0
    member = own[:, None] == np.arange(len(names))
    sizes, rows = member.sum(0), np.arange(len(own))
    sums = cdist(coordinates, coordinates) @ member
    within = sums[rows, own] / np.maximum(1, sizes[own] - 1)
    means = sums / sizes
    means[rows, own] = np.inf
    without = means.min(1)
    widest = np.maximum(within, without)
    values = np.divide(without - within, widest, out=np.zeros_like(widest), where=widest > 0)
    return float(np.where(sizes[own] > 1, values, 0).mean())


def _k_means(coordinates: Floats, k: int, seed: int) -> Floats | None:
    from scipy.cluster.vq import ClusterError, kmeans2

    best: tuple[float, Any] | None = None
    for start in range(TRIES):
        try:
            generator = np.random.default_rng([seed, k, start])
            centres, groups = kmeans2(coordinates, k, iter=ROUNDS, minit="++", rng=generator, missing="raise")
        except ClusterError:  # a cluster lost its last row
            continue
        error = float(((coordinates - centres[groups]) ** 2).sum())
        if best is None or error < best[0]:
            best = error, centres
    return None if best is None else best[1]
