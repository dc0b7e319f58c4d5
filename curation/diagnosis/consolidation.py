"""Elastic weight consolidation: weights that the samples to keep depend on are held near where they were.

    penalty(theta) = strength / 2 * sum_i (F_i + 1e-4) (theta_i - theta*_i)^2

F_i is the diagonal of the *empirical* Fisher information: the mean over samples of the squared gradient of
log p(y | x, theta*) for the sample's own label y, one sample at a time. On samples that the model is right about, y is
its most probable class. 1e-4 holds weights on which no sample depends, since F of samples that are learned well is
close to 0. Source: 1612.00796, equation 3; the term 1e-4 and up to 10,000 correct samples as in the code of
2109.12347 (repair by EWC).

Cost: about four training steps a sample for F, once; a few additions a weight and step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.tuning import TunedClassifier
from curation.gradients import expect_separate

FLOOR = 1e-4  # added to each F_i
MOST_SAMPLES = 10_000  # whose gradients make F
MEMORY = 256 << 20  # bytes of whole gradients at once
MOST_CHUNK = 32  # samples at once; more are not faster on a CPU


@dataclass(frozen=True)
class Consolidation:
    """The penalty: F and theta* by the names of a module's parameters."""

    strength: float
    fisher: Mapping[str, Tensor]
    start: Mapping[str, Tensor]

    def penalty(self, module: nn.Module) -> Tensor:
        """Return the penalty of the module's weights, a scalar with gradients."""
        parts = [
            ((self.fisher[name] + FLOOR) * (tensor - self.start[name]).square()).sum()
            for name, tensor in module.named_parameters()
        ]
        return self.strength / 2 * torch.stack(parts).sum()


def consolidate(classifier: TunedClassifier, pictures: LabelledPictures, strength: float) -> Consolidation:
    """Return the penalty that holds a classifier at its present weights, by F of at most `MOST_SAMPLES` pictures."""
    fisher = diagonal_fisher_of_weights(classifier, pictures.take(range(min(len(pictures), MOST_SAMPLES))))
    start = {name: tensor.detach().clone() for name, tensor in classifier.module.named_parameters()}
    return Consolidation(strength, fisher, start)


def diagonal_fisher_of_weights(classifier: TunedClassifier, pictures: LabelledPictures) -> dict[str, Tensor]:
    """Return the mean squared gradient of the log-likelihood of single samples, by parameter.

    Raises `UserError` for a module in which the loss of a sample depends on the others (batch norm in training mode).
    """
    module = classifier.module
    expect_separate(module)
    weights = {name: tensor.detach() for name, tensor in module.named_parameters()}
    device = next(iter(weights.values())).device

    def loss(weights: dict[str, Tensor], pixels: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(functional_call(module, weights, (pixels[None],)).float(), target[None])

    gradients = vmap(grad(loss), (None, 0, 0))
    sums = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    chunk = max(1, min(MOST_CHUNK, MEMORY // (4 * sum(tensor.numel() for tensor in weights.values()))))
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no rule for per-sample gradients
        for some, targets in zip(
            torch.split(pictures.pixels, chunk), torch.split(pictures.targets, chunk), strict=True
        ):
            found = gradients(weights, classifier.normalise(some.to(device)), targets.to(device))
            for name, total in sums.items():
                total += found[name].square().sum(0)
    return {name: total / max(1, len(pictures)) for name, total in sums.items()}
