"""Methods of tracing: how much a training sample pulled a model towards a set of failures.

Each method gives a training sample z a number r(z) from the gradients of the loss, g_z of the sample as it was trained
on and g_F, the mean of the failures with the answers that were expected. Where -g_F . g_z is high, a step on z made the
failures worse. Methods differ in how they scale gradients.

- `unit` methods scale every gradient to length 1 first. Late in training, the samples that a model has learned have
  gradients near 0, and noise that it has not learned has large ones; the direction stays informative.
- F is the Fisher information of the training samples (`curation.gradients`): it shrinks directions that many
  samples share.

Measured with two planted causes and random flips (`make bench-diagnosis`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from curation.gradients import FisherSystem, diagonal_fisher

DAMPING = 3e-2  # share of the trace of F: the smallest tried in the bench that never falls below the cosine
DIAGONAL = 1e-2  # share of the diagonal's mean


class TraceMethod(Protocol):
    """r(z) = -g_z . direction, where gradients are scaled to unit length if `unit`."""

    @property
    def unit(self) -> bool:
        """Whether gradients are scaled to unit length."""
        ...

    @property
    def last_layer(self) -> bool:
        """Whether the method reads the columns of the last layer alone."""
        ...

    def direction(self, failures: Tensor, sample: Tensor) -> Tensor:
        """Return the direction `[D]` from gradients of failures `[F, D]` and of a sample of the training data `[n, D]`.

        Rows are scaled already if `unit`.
        """
        ...


@dataclass(frozen=True)
class DotProduct:
    """-g_F . g_z. Summed over checkpoints of a training it is TracIn (2002.08484, equation 4); `unit`: the cosine."""

    unit: bool = False
    last_layer: bool = False

    def direction(self, failures: Tensor, sample: Tensor) -> Tensor:
        return failures.mean(0)


@dataclass(frozen=True)
class DiagonalFisher:
    """-g_F' diag(F)^-1 g_z: the EWC approximation. Source: 2207.04806, section 3."""

    unit: bool = False
    last_layer: bool = False

    def direction(self, failures: Tensor, sample: Tensor) -> Tensor:
        diagonal = diagonal_fisher([sample])
        return failures.mean(0) / (diagonal + DIAGONAL * diagonal.mean()).clamp_min(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class DualFisher:
    """-g_F' (F + c I)^-1 g_z, solved in its dual. Source: 2207.04806, equation 5, with the whole Fisher information."""

    unit: bool = True
    last_layer: bool = False

    def direction(self, failures: Tensor, sample: Tensor) -> Tensor:
        return FisherSystem(sample, DAMPING).solve(failures.mean(0)).float()


LOSS = "loss"  # r(z) is the training loss of z: no gradient, the baseline

#: name -> method. `loss` is none of them: it reads no gradient.
TRACE_METHODS: dict[str, TraceMethod] = {
    "dual_fisher": DualFisher(),
    "dual_fisher_unscaled": DualFisher(unit=False),
    "diagonal_fisher": DiagonalFisher(),
    "cosine": DotProduct(unit=True),
    "dot": DotProduct(),
    "last_layer": DotProduct(last_layer=True),
}


def scaled(rows: Tensor, method: TraceMethod, last: int) -> Tensor:
    """Return gradients as a method reads them. last: the number of columns of the last layer."""
    read = rows[:, -last:] if method.last_layer else rows
    return normalize(read, dim=1) if method.unit else read
