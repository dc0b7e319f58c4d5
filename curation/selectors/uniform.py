"""Selection that ignores the candidates: the baseline, and a negative control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs
from curation.selectors.blend import Blend
from curation.selectors.selector import Role, Selector


@dataclass(frozen=True, kw_only=True)
class Uniform(Selector):
    """A uniformly random sub-batch. Runs no model; with a filtering ratio of 0 it is ordinary training.

    When to use: as the baseline of every comparison. Cost: none.
    Example: uniform: {}
    """

    def roles(self) -> frozenset[Role]:
        return frozenset()

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        raise AssertionError("a selector without roles has nothing to score")

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        raise AssertionError("a selector without roles chooses nothing: its super-batch is its sub-batch")


@dataclass(frozen=True, kw_only=True)
class Shuffled(Selector):
    """Another selector's scores, assigned to the wrong candidates. A negative control: it must not beat uniform.

    When to use: to check that the scores make the difference. Cost: as that of the selector `of`.
    Example: shuffled: {of: {gain: 10}}
    """

    of: Blend = field(default_factory=Blend)

    def roles(self) -> frozenset[Role]:
        return self.of.roles()

    def needs_pairs(self) -> bool:
        return self.of.needs_pairs()

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        return self.of.scores(outputs, progress)

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        scores = self.scores(outputs, progress)
        wrong = scores[torch.randperm(len(scores), generator=generator).to(scores.device)]
        return self.of.choose(wrong, size, progress, generator)
