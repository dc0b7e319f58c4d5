"""Selection that looks at nothing: the baseline, and a negative control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs
from curation.selectors.blend import Blend


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Any sub-batch as likely as any other. Runs no model; with a filtering ratio of 0 it is ordinary training.

    When to use: as what everything else is compared with. Cost: none.
    Example: uniform: {}
    """

    def roles(self) -> frozenset[Any]:
        return frozenset()

    def scores(self, outputs: Mapping[Any, Outputs], progress: float) -> Tensor:
        raise AssertionError("a selector without roles has nothing to score")

    def select(self, outputs: Mapping[Any, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        raise AssertionError("a selector without roles is never asked: its super-batch is its sub-batch")


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Another selector's scores, given to the wrong candidates. A negative control: it must not beat uniform.

    When to use: to see that it is the scores that help. Cost: as that selector's.
    Example: shuffled: {of: {gain: 10}}
    """

    of: Blend = field(default_factory=Blend)

    def roles(self) -> frozenset[Any]:
        return self.of.roles()

    def scores(self, outputs: Mapping[Any, Outputs], progress: float) -> Tensor:
        return self.of.scores(outputs, progress)

    def select(self, outputs: Mapping[Any, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        scores = self.scores(outputs, progress)
        wrong = scores[torch.randperm(len(scores), generator=generator).to(scores.device)]
        return self.of.choose(wrong, size, progress, generator)
