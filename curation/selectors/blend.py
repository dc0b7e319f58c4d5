"""Selection by a score of each candidate alone: s = online * l_online - reference * l_ref.

When to use: always first; a super-batch costs one forward pass of each small model, and nothing pairwise.
- learnability (1, 1): hard for the online model, easy for the reference: neither noise nor known already.
- easy-reference (0, 1): what the reference knows. No online model to run or train, so it is cheapest; against pure
  noise it is hard to beat, and it never notices that something has been learned.
- hard-learner (1, 0): what the online model does not know yet, noise above all. A control more than a method.

The sub-batch is drawn without replacement with probability softmax(gain * s), or is plainly the top (RHO-LOSS).

Of pairs, a loss is pointwise, -z_img . z_txt, or (`loss: softmax`) the contrastive loss among all candidates. Pointwise
ones differ by little: with a gain of 1 the softmax of them is almost uniform, 3 to 30 are common. Contrastive ones are
larger by the temperature, and want a gain about 1; they cost 2 B^2 D FLOPs and 4 B^2 bytes a super-batch and model.
Source: 2312.05328, section 3 and equation 1; RHO-LOSS: 2206.07137, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs, PairEmbeddings
from curation.selectors.draw import Schedule, at, check_gain, check_weights, draw, top


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Any mixture of online and reference loss, both weights of which may change over the run.

    When to use: to weigh the two against each other, or to go from one to the other over the run. s = online * l_online
    - reference * l_ref; drawn without replacement with probability softmax(gain * s), so that a gain of 0 draws
    uniformly. No number is negative. Cost: a forward pass of each model a candidate.
    Example: blend: {gain: 10, online: {start: 0.5, end: 1}, reference: 1}
    """

    gain: Schedule = 10.0
    pick: Literal["draw", "top"] = "draw"
    online: Schedule = 1.0
    reference: Schedule = 1.0
    loss: Literal["pointwise", "softmax"] = "pointwise"  # of pairs; a class and a column have one alone

    def roles(self) -> frozenset[Any]:
        """A role whose weight is 0 for the whole run is not run at all."""
        return frozenset(role for role in ("online", "reference") if getattr(self, role) != 0)

    def scores(self, outputs: Mapping[Any, Outputs], progress: float) -> Tensor:
        total: Tensor | None = None
        for role, sign in (("online", 1), ("reference", -1)):
            if role in self.roles():
                part = sign * at(getattr(self, role), progress) * self._losses(outputs[role]).float()
                total = part if total is None else total + part.to(total.device)
        assert total is not None, "a blend without roles"
        return total

    def _losses(self, outputs: Outputs) -> Tensor:
        return (
            outputs.softmax_losses()
            if self.loss == "softmax" and isinstance(outputs, PairEmbeddings)
            else outputs.losses()
        )

    def select(self, outputs: Mapping[Any, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        return self.choose(self.scores(outputs, progress), size, progress, generator)

    def choose(self, scores: Tensor, size: int, progress: float, generator: torch.Generator) -> Tensor:
        """The sub-batch for these scores."""
        if self.pick == "top":
            return top(scores, size)
        return draw(at(self.gain, progress) * scores.double().cpu(), size, generator)

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
    """-l_ref: what the reference knows. No online model.

    When to use: where there is much noise, and nothing to spend on an online model. s = -l_ref. Cost: a forward pass of
    the reference a candidate; none where it is a column. Source: 2312.05328, section 3.
    Example: easy_reference: {gain: 10}
    """

    online: Schedule = 0.0


@dataclass(frozen=True, kw_only=True)
class HardLearner(Blend):
    """l_online: what the online model does not know. No reference.

    When to use: as a control, since noise is hardest of all. s = l_online. Cost: a forward pass of the online model a
    candidate. Source: 2312.05328, section 3.
    Example: hard_learner: {gain: 10}
    """

    reference: Schedule = 0.0
