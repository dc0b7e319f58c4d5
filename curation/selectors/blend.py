"""Selection by a score of each candidate alone: s = online * l_online - reference * l_ref.

When to use: first. A super-batch costs one forward pass of each small model, and nothing pairwise.
- learnability (1, 1): hard for the online model, easy for the reference: neither noise nor learned already.
- easy-reference (0, 1): samples that the reference knows. No online model to run or train, so it is the cheapest;
  against pure noise it is hard to beat, but it never notices that a sample has been learned.
- hard-learner (1, 0): samples that the online model does not know yet, noise above all. A control more than a method.

The sub-batch is drawn without replacement with probability softmax(gain * s), or is the top (RHO-LOSS).

The loss of a pair is pointwise, -z_img . z_txt, or (`loss: softmax`) the contrastive loss among all candidates.
Pointwise losses differ by little: with a gain of 1 their softmax is almost uniform, gains of 3 to 30 are common.
Contrastive losses are larger by the temperature, and need a gain of about 1; they cost 2 B^2 D FLOPs and 4 B^2 bytes a
super-batch and model. Source: 2312.05328, section 3 and equation 1; RHO-LOSS: 2206.07137, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs, PairEmbeddings
from curation.selectors.draw import draw, top
from curation.selectors.schedule import Schedule, check_gain, check_weights, value_at
from curation.selectors.selector import Role, Selector


@dataclass(frozen=True, kw_only=True)
class Blend(Selector):
    """A weighted difference of the online and the reference loss. Both weights may change over the run.

    When to use: to weigh the two against each other, or to move from one to the other over the run. s = online *
    l_online - reference * l_ref; drawn without replacement with probability softmax(gain * s), so that a gain of 0
    draws uniformly. All numbers are at least 0. Cost: a forward pass of each model a candidate.
    Example: blend: {gain: 10, online: {start: 0.5, end: 1}, reference: 1}
    """

    gain: Schedule = 10.0
    pick: Literal["draw", "top"] = "draw"
    online: Schedule = 1.0
    reference: Schedule = 1.0
    loss: Literal["pointwise", "softmax"] = "pointwise"  # of pairs; classes and columns have a pointwise loss only

    def roles(self) -> frozenset[Role]:
        """Return the roles whose weight is not 0 for the whole run."""
        both: tuple[Role, Role] = ("online", "reference")
        return frozenset(role for role in both if getattr(self, role) != 0)

    def needs_pairs(self) -> bool:
        return self.loss == "softmax"

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        total: Tensor | None = None
        signs: dict[Role, int] = {"online": 1, "reference": -1}
        for role, sign in signs.items():
            if role in self.roles():
                part = sign * value_at(getattr(self, role), progress) * self._losses(outputs[role]).float()
                total = part if total is None else total + part.to(total.device)
        assert total is not None, "a blend without roles"
        return total

    def _losses(self, outputs: Outputs) -> Tensor:
        return (
            outputs.softmax_losses()
            if self.loss == "softmax" and isinstance(outputs, PairEmbeddings)
            else outputs.losses()
        )

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        return self.choose(self.scores(outputs, progress), size, progress, generator)

    def choose(self, scores: Tensor, size: int, progress: float, generator: torch.Generator) -> Tensor:
        """Return the sub-batch for scores `[B]`: `size` rows, int64, ascending."""
        if self.pick == "top":
            return top(scores, size)
        return draw(value_at(self.gain, progress) * scores.double().cpu(), size, generator)

    def __post_init__(self) -> None:
        check_gain(self.gain)
        check_weights(online=self.online, reference=self.reference)


@dataclass(frozen=True, kw_only=True)
class Learnability(Blend):
    """l_online - l_ref: hard for the online model, easy for the reference. With `pick: top` it is RHO-LOSS.

    When to use: first. s = l_online - l_ref. Cost: a forward pass of both models a candidate; of the online model alone
    where the reference is a column. Source: 2312.05328, section 3; RHO-LOSS (2206.07137).
    Example: learnability: {gain: 10}
    """


@dataclass(frozen=True, kw_only=True)
class EasyReference(Blend):
    """-l_ref: samples that the reference knows. No online model.

    When to use: for noisy data, without compute for an online model. s = -l_ref. Cost: a forward pass of
    the reference a candidate; none where it is a column. Source: 2312.05328, section 3.
    Example: easy_reference: {gain: 10}
    """

    online: Schedule = 0.0


@dataclass(frozen=True, kw_only=True)
class HardLearner(Blend):
    """l_online: samples that the online model does not know. No reference.

    When to use: as a control, since noise is the hardest. s = l_online. Cost: a forward pass of the online model a
    candidate. Source: 2312.05328, section 3.
    Example: hard_learner: {gain: 10}
    """

    reference: Schedule = 0.0
