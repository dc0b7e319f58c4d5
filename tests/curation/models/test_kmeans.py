"""Spherical k-means against planted clusters and its own definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from curation.models.kmeans import assign, find_centres


def planted(clusters: int, each: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    centres = normalize(torch.randn(clusters, width, generator=generator), dim=-1)
    truth = torch.arange(clusters).repeat_interleave(each)
    noise = 0.05 * torch.randn(clusters * each, width, generator=generator)
    return normalize(centres[truth] + noise, dim=-1), truth


def test_every_vector_is_with_its_nearest_centre_and_every_centre_is_the_mean_of_its_vectors() -> None:
    vectors, _ = planted(6, 50)
    centres = find_centres(vectors, 6, rounds=100)
    nearest, similarity = assign(vectors, centres)
    assert torch.equal(nearest, (vectors @ centres.T).argmax(1))
    assert torch.equal(similarity, (vectors @ centres.T).amax(1))
    means = torch.stack([normalize(vectors[nearest == n].mean(0), dim=-1) for n in range(6)])
    assert torch.allclose(means, centres, atol=1e-5)


def test_more_centres_than_planted_clusters_never_mix_two_of_them() -> None:
    vectors, truth = planted(5, 60)
    nearest, _ = assign(vectors, find_centres(vectors, 40))
    mixed = [len(set(truth[nearest == n].tolist())) for n in nearest.unique()]
    assert set(mixed) == {1}


def test_the_seed_decides_and_there_are_never_more_centres_than_vectors() -> None:
    vectors, _ = planted(4, 10)
    assert torch.equal(find_centres(vectors, 4, seed=1), find_centres(vectors, 4, seed=1))
    assert find_centres(vectors[:3], 9).shape == (3, 16)
    with pytest.raises(ValueError, match="at least 1"):
        find_centres(vectors[:0], 2)


def test_clusters_that_lose_all_start_again() -> None:
    same = normalize(torch.ones(20, 4), dim=-1)
    apart = normalize(torch.tensor([[1.0, 0, 0, 0]]), dim=-1)
    nearest, _ = assign(torch.cat([same, apart]), find_centres(torch.cat([same, apart]), 2, seed=0))
    assert nearest[-1] != nearest[0]
