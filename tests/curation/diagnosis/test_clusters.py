"""Clusters: the number that was planted is found, the silhouette is that of its definition, UMAP is an extra."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from curation.core.errors import UserError
from curation.diagnosis.clusters import find_clusters, project_pca, project_umap, silhouette


def blobs(count: int, size: int = 20, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    centres = 6 * np.eye(width)[:count]
    return np.concatenate([centre + 0.3 * random.normal(size=(size, width)) for centre in centres]), np.repeat(
        np.arange(count), size
    )


@pytest.mark.parametrize("count", [2, 3, 5])
def test_planted_clusters_are_found_again_and_for_other_vectors(count: int) -> None:
    vectors, truth = blobs(count)
    coordinates, transform = project_pca(vectors, 0)
    assert coordinates.shape == (len(vectors), 10)
    found = find_clusters(coordinates, seed=0)
    assert len(found.centres) == count and set(found.silhouettes) == set(range(2, 10))
    own = found.nearest(transform(vectors + 0.1))
    assert all(len(set(own[truth == number])) == 1 for number in range(count)) and len(set(own)) == count
    assert np.array_equal(find_clusters(coordinates, seed=0).centres, found.centres)


def test_silhouette_is_that_of_its_definition() -> None:
    points, groups = np.random.default_rng(1).normal(size=(9, 2)), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    values = []
    for row, own in enumerate(groups):
        distance = np.linalg.norm(points - points[row], axis=1)
        within = distance[(groups == own) & (np.arange(9) != row)].mean()
        others = min(distance[groups == other].mean() for other in set(groups.tolist()) - {own})
        values.append((others - within) / max(within, others))
    assert silhouette(points, groups) == pytest.approx(np.mean(values))
    assert silhouette(points, np.zeros(9, np.int64)) == 0
    assert silhouette(points[:2], np.array([0, 1])) == 0, "each is alone"


def test_umap_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match="umap-learn") as caught:
        project_umap(blobs(2)[0], 0)
    assert "tutelage[diagnosis]" in caught.value.fix


def test_too_few_vectors_make_no_clusters() -> None:
    with pytest.raises(ValueError, match="don't make"):
        find_clusters(np.zeros((2, 3)))


@pytest.mark.slow
def test_umap_keeps_planted_clusters_apart() -> None:
    pytest.importorskip("umap")
    vectors, truth = blobs(3)
    coordinates, transform = project_umap(vectors, 0)
    assert coordinates.shape == (len(vectors), 10)
    own = find_clusters(coordinates, least=3, most=3).nearest(transform(vectors + 0.1))
    assert all(len(set(own[truth == number])) == 1 for number in range(3)) and len(set(own)) == 3
