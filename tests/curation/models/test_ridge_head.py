"""The head: ridge regression as numpy solves it, a temperature from rows left out, and rows that repeat noise."""

from __future__ import annotations

import numpy as np
import torch

from curation.models.ridge_head import LEAST_DEVIATION, PENALTY, ridge_head


def data(rows: int, width: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, rows)
    features = random.normal(size=(rows, width)) + 2 * np.eye(3, width)[targets]
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(targets)


def residuals(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Logits before the temperature of every row, by the rows of `features`: the definition."""
    wide = (features - features.mean(0)) / (features.std(0) + LEAST_DEVIATION)
    shares = np.bincount(targets, minlength=3) / len(targets)
    gram = wide.T @ wide + PENALTY * wide.shape[1] * np.eye(wide.shape[1])
    return wide @ np.linalg.solve(gram, wide.T @ (np.eye(3)[targets] - shares)) + shares


def test_it_is_ridge_regression_up_to_a_temperature() -> None:
    features, targets = data(200)
    head = ridge_head(features, targets, 3)
    logits = (features @ head.weight.T + head.bias).numpy()
    wanted = residuals(features.double().numpy(), targets.numpy())
    temperature = np.ptp(logits) / np.ptp(wanted)
    assert 1 <= temperature <= 40 and np.allclose(logits, temperature * wanted, atol=1e-3)
    assert 0 < head.loss < np.log(3) and (logits.argmax(1) == targets.numpy()).mean() > 0.85


def test_labels_at_random_give_no_confidence() -> None:
    features, _ = data(100, width=90)
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 100))
    head = ridge_head(features, targets, 3)
    confident = (features @ head.weight.T + head.bias).softmax(1).amax(1)
    assert head.loss > 0.9 * np.log(3) and confident.max() < 0.8, "in spite of as many features as rows"


def test_a_class_without_rows_and_a_constant_feature() -> None:
    features, targets = data(60)
    features[:, 2] = 1.0
    head = ridge_head(features, targets.clamp_max(1), 4)
    found = (features @ head.weight.T + head.bias).softmax(1)
    assert torch.isfinite(found).all() and (found[:, 2:] < 0.3).all()
