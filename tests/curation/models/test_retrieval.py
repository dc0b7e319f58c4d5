"""Retrieval, zero-shot accuracy and intervals, against brute force and arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from curation.core.intervals import wilson
from curation.models.batches import Examples
from curation.models.dual import load_dual_encoder
from curation.models.retrieval import evaluate, one_per_group, retrieval, zero_shot


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_against_brute_force(seed: int) -> None:
    torch.manual_seed(seed)
    image, text = (normalize(torch.randn(30, 8), dim=1) for _ in range(2))
    found = retrieval(image, text)
    similarity = image @ text.T
    for way, matrix in (("i2t", similarity), ("t2i", similarity.T)):
        for k in (1, 5):
            hits = sum(i in matrix[i].argsort(descending=True)[:k] for i in range(30))
            rate = found[f"{way}_recall@{k}"]
            assert rate.rate == pytest.approx(hits / 30) and rate.low <= rate.rate <= rate.high
            assert rate.chance == pytest.approx(k / 30)


def test_a_collapsed_encoder_recalls_nothing() -> None:
    same = torch.ones(50, 4) / 2
    assert all(rate.rate == 0 for rate in retrieval(same, same).values())


def test_a_collapsed_encoder_classifies_as_chance_does() -> None:
    truth = torch.tensor([0] * 30 + [1] * 15 + [2] * 5)
    found = zero_shot(torch.ones(50, 4) / 2, torch.ones(3, 4) / 2, truth)
    assert found.rate == found.chance == 0.6


def test_a_perfect_encoder_recalls_everything() -> None:
    eye = torch.eye(50)
    assert all(rate.rate == 1 for rate in retrieval(eye, eye).values())


def test_zero_shot() -> None:
    found = zero_shot(torch.eye(4), torch.eye(4)[:2], torch.tensor([0, 1, 0, 1]))
    assert (found.rate, found.total, found.chance) == (0.75, 4, 0.5)  # rows 2 and 3 tie, and the first class wins


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (100, 1000, 0.0829, 0.1201)]
)
def test_wilson_against_published_values(hits: int, total: int, low: float, high: float) -> None:
    rate = wilson(hits, total, 0.0)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_candidates_are_one_of_a_group_and_of_a_caption() -> None:
    labels = ["heart", "Heart!", "star", "", "", "moon", ""]
    captions = ["a heart", "the heart", "a star", "x", "y", "a star", "the picture of x again"]
    pixels = np.zeros((7, 64, 64, 3), np.uint8) + np.array([0, 1, 2, 3, 4, 5, 3], np.uint8)[:, None, None, None]
    examples = Examples(pixels, captions, [f"u{i}" for i in range(7)], labels)
    assert one_per_group(examples, 100) == [0, 2, 3, 4]
    assert one_per_group(examples, 2) == [0, 2]


def test_where_no_name_repeats_each_is_a_class() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
    names = [f"thing {i}" for i in range(5)]
    found = evaluate(load_dual_encoder("proxy-mu", None), Examples(pixels, names, names, names))["zero_shot"]
    assert (found["classes"], found["total"], found["chance"]) == (5, 5, 0.2)


@pytest.mark.parametrize("n", [0, 1, 12])
def test_evaluate_is_json(n: int) -> None:
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 255, (n, 64, 64, 3), dtype=np.uint8)
    examples = Examples(
        pixels, [f"thing {i}" for i in range(n)], [str(i) for i in range(n)], [f"kind-{i % 3}" for i in range(n)]
    )
    found = evaluate(load_dual_encoder("proxy-mu", None), examples)
    assert found["samples"] == n and found["candidates"] == min(n, 3)
    assert ("zero_shot" in found) == ("retrieval" in found) == (n == 12)
    if n == 12:
        assert found["zero_shot"]["classes"] == 3 and 0 <= found["retrieval"]["t2i_recall@1"]["rate"] <= 1
