"""Gradients of single samples against autograd, sketches against their definition, and Fisher systems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_model import WIDTH, tiny_model
from torch import Tensor, nn
from torch.nn.functional import normalize

from curation.core.errors import UserError
from curation.gradients import (
    MOST_ROWS,
    FisherSystem,
    GradientSketch,
    Losses,
    PairLosses,
    class_losses,
    diagonal_fisher,
)
from curation.learners.contrastive import initialise_sigmoid
from curation.learners.contrastive_losses import contrastive_loss, sigmoid_loss
from curation.models.architecture import build_model
from curation.models.classifier import Classifier
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import encode_image, encode_text

N = 5
Given = tuple[nn.Module, Losses, Tensor, Tensor]  # a module, its losses, inputs and targets
KINDS = ["classes", "softmax", "sigmoid"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_model(tmp_path_factory.mktemp("model")) as name:
        yield name


def given(kind: str, model: str, n: int = N) -> Given:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(n, 3, 64, 64, generator=generator)
    torch.manual_seed(0)
    if kind == "classes":
        return Classifier(model, 3).eval(), class_losses, pixels, torch.arange(n) % 3
    module, ids = build_model(model).eval(), tokenizer_for("proxy-mu")([f"number {i}" for i in range(n)])
    if kind == "sigmoid":
        initialise_sigmoid(module)
    others = [normalize(torch.randn(7, WIDTH, generator=generator), dim=1) for _ in range(2)]
    return module, PairLosses(*others, loss=kind), pixels, ids  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_autograd_where_nothing_is_projected(kind: str, model: str) -> None:
    module, losses, inputs, targets = given(kind, model)
    sketch = GradientSketch(module, losses, numbers=10**9)
    found = sketch(inputs, targets)
    weights = {name: tensor for name, tensor in module.named_parameters() if name in sketch.layers}
    assert found.shape == (N, sketch.width) and sketch.width == sum(tensor.numel() for tensor in weights.values())
    assert not any(name.endswith(("bias", "token_embedding.weight")) for name in weights)
    for row, loss in zip(found, losses(module, inputs, targets), strict=True):
        expected = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for name, tensor in zip(weights, expected, strict=True):
            torch.testing.assert_close(row[sketch.layers[name].columns], tensor.flatten(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_loss_of_a_pair_is_that_of_its_row_and_column_in_a_batch(kind: str, model: str) -> None:
    """The loss of a batch is the mean of its pairs' losses, each among the vectors of the others."""
    module, _, inputs, ids = given(kind, model)
    with torch.no_grad():
        image, text = (normalize(way, dim=-1) for way in (encode_image(module, inputs), encode_text(module, ids)))
        if kind == "sigmoid":
            whole = sigmoid_loss(image, text, module.logit_scale.exp(), module.logit_bias)  # type: ignore[operator]
        else:
            whole = contrastive_loss(image, text, module.logit_scale.exp())  # type: ignore[operator]
        found = []
        for row in range(N):
            others = [way[torch.arange(N) != row] for way in (image, text)]
            losses = PairLosses(*others, loss=kind)  # type: ignore[arg-type]
            found.append(float(losses(module, inputs[row : row + 1], ids[row : row + 1])[0]))
    assert np.mean(found) == pytest.approx(float(whole), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_has_the_same_gradient_in_any_batch(kind: str, model: str) -> None:
    module, losses, inputs, targets = given(kind, model, 40)  # more than a chunk
    sketch = GradientSketch(module, losses)
    alone = torch.cat([sketch(inputs[row : row + 1], targets[row : row + 1]) for row in (0, 33, 39)])
    torch.testing.assert_close(sketch(inputs, targets)[[0, 33, 39]], alone, rtol=1e-3, atol=1e-5)
    assert sketch(inputs[:0], targets[:0]).shape == (0, sketch.width)


def test_a_sketch_keeps_inner_products_in_expectation(model: str) -> None:
    """Over seeds, the mean inner product of two sketched layers is that of the layers (count sketch is unbiased)."""
    module, losses, _, _ = given("classes", model)
    one, other = torch.randn(2, 16 * 3 * 16 * 16, generator=torch.Generator().manual_seed(1))
    other += 0.3 * one
    products = []
    for seed in range(200):
        layer = GradientSketch(module, losses, numbers=100, seed=seed).layers["visual.conv1.weight"]
        assert layer.columns.stop - layer.columns.start == 100
        left, right = layer.sketch(torch.stack([one, other]))
        products.append(float(left @ right))
    error = np.std(products) / np.sqrt(len(products))
    assert abs(np.mean(products) - float(one @ other)) < 4 * error
    assert error < 0.02 * float(one.norm() * other.norm())  # the bound: norms' product * sqrt(2 / 100) / sqrt(200)


def test_a_sketch_is_a_function_of_its_seed(model: str) -> None:
    module, losses, inputs, targets = given("classes", model)
    first, second, other = (GradientSketch(module, losses, seed=seed)(inputs, targets) for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_batch_statistics_are_refused(model: str) -> None:
    module, losses, _, _ = given("classes", model)
    module.add_module("norm", nn.BatchNorm1d(4).eval())
    GradientSketch(module, losses)  # in evaluation mode, its statistics are constants
    module.norm.train()  # type: ignore[union-attr]
    with pytest.raises(UserError, match="layer norm normalises by the batch"):
        GradientSketch(module, losses)


@pytest.mark.parametrize(("n", "d"), [(7, 50), (50, 7), (1, 3)])
def test_the_dual_system_is_the_dense_one(n: int, d: int) -> None:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(n))
    ways = torch.randn(d, 2, generator=torch.Generator().manual_seed(d))
    system = FisherSystem(rows, damping=0.05)
    dense = rows.double().T @ rows.double() / n
    assert system.damping == pytest.approx(0.05 * float(dense.trace()))
    expected = torch.linalg.solve(dense + system.damping * torch.eye(d, dtype=torch.float64), ways.double())
    torch.testing.assert_close(system.solve(ways), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(system.solve(ways[:, 0]), expected[:, 0], rtol=1e-8, atol=1e-8)


def test_systems_that_cannot_be_solved_are_refused() -> None:
    with pytest.raises(UserError, match="all gradients are 0"):
        FisherSystem(torch.zeros(3, 4))
    for n in (0, MOST_ROWS + 1):
        with pytest.raises(ValueError, match="takes 1 to"):
            FisherSystem(torch.zeros(n, 1))


def test_the_diagonal_is_the_mean_square_over_all_parts() -> None:
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(diagonal_fisher(torch.split(rows, [3, 7])), rows.square().mean(0))
