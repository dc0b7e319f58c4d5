"""The diagonal Fisher information and the penalty against autograd, one sample at a time."""

from __future__ import annotations

import pytest
import torch
from marked_pictures import failing, marked, untrained
from torch import nn
from torch.nn.functional import cross_entropy

from curation.core.errors import UserError
from curation.diagnosis.consolidation import FLOOR, consolidate, diagonal_fisher_of_weights


@pytest.mark.slow
@pytest.mark.slow
def test_fisher_is_the_mean_square_of_each_samples_gradient() -> None:
    classifier, pictures = failing(), marked(70, [0, 1], [0, 1], mark=False, seed=4)
    found = diagonal_fisher_of_weights(classifier, pictures)
    weights = dict(classifier.module.named_parameters())
    sums = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    classifier.module.requires_grad_(True)
    for row in range(len(pictures)):
        one = pictures.take([row])
        loss = cross_entropy(classifier.logits(one.pixels), one.targets)
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            sums[name] += gradient.square()
    for name, total in sums.items():
        torch.testing.assert_close(found[name], total / len(pictures), rtol=1e-4, atol=1e-9)


def test_the_penalty_is_the_formula_and_its_gradient_points_back() -> None:
    classifier, pictures = failing(), marked(20, [0, 1], [0, 1], mark=False, seed=4)
    held = consolidate(classifier, pictures, strength=6.0)
    assert float(held.penalty(classifier.module)) == 0
    weight = classifier.module[1].weight  # type: ignore[index]
    with torch.no_grad():
        weight[0, 3] += 0.5
    weight.requires_grad_(True)
    found = held.penalty(classifier.module)
    fisher = float(held.fisher["1.weight"][0, 3])
    assert float(found) == pytest.approx(3.0 * (fisher + FLOOR) * 0.25, rel=1e-4)
    (gradient,) = torch.autograd.grad(found, [weight])
    assert float(gradient[0, 3]) == pytest.approx(6.0 * (fisher + FLOOR) * 0.5, rel=1e-4)
    assert int(gradient.count_nonzero()) == 1


def test_batch_norm_in_training_mode_is_refused() -> None:
    classifier = untrained()
    classifier.module.append(nn.BatchNorm1d(2))  # type: ignore[operator]
    with pytest.raises(UserError, match="normalises by the batch"):
        diagonal_fisher_of_weights(classifier, marked(4, [0, 1], [0, 1], mark=False, seed=4))
