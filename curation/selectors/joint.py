"""Joint selection (JEST): a sub-batch that is learnable *together*, drawn in chunks.

When to use: for contrastive learners with memory for B x B matrices, at high filtering ratios (0.8): the negatives that
a pair adds for the others count as well as the pair itself. Independent selection is `chunks: 1`.

With L the matrix of pairwise losses of a model and S = L_online - L_ref, the first b / N samples are drawn with
probability softmax(gain * S_ii), and each further chunk with

    softmax(gain * (S_ii + sum over chosen k of (S_ik + S_ki)))        chosen ones masked

which is the growth of the batch's summed loss when i joins the chosen. The sigmoid loss is a sum over pairs, so L is a
matrix; the softmax loss is not, and there the same quantity is computed from running log-sum-exps: the growth of the
sum of symmetric InfoNCE losses when i joins the chosen (the first chunk is then uniform, as one pair has no loss).
Source: JEST, 2406.17711, section 2.2 and the algorithm of its appendix (with a gain of 1). Cost: 2 B^2 D FLOPs a model,
and N passes over B^2 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from curation.core.ranges import check_count
from curation.models.model_outputs import Outputs, PairEmbeddings, PairwiseLoss
from curation.selectors.draw import check_size, draw
from curation.selectors.schedule import Schedule, check_gain, check_weights, value_at
from curation.selectors.selector import Role, Selector

LossGrowth = Callable[[Tensor], Tensor]  # rows chosen so far -> [B]: growth of the summed loss by each row


@dataclass(frozen=True, kw_only=True)
class Joint(Selector):
    """JEST: chunks of pairs that are learnable together. `online` and `reference` as in `blend`.

    When to use: for contrastive learners at high filtering ratios: the negatives that a pair adds count, too. With S =
    L_online - L_ref, matrices of pairwise losses, the next chunk is drawn with probability softmax(gain * (S_ii + the
    terms of i with those drawn so far)). `loss` defaults to the loss that the online model (or the reference, if it is
    alone) was trained with; JEST's models have sigmoid losses. Cost: a forward pass of both models a candidate, and
    2 B^2 D FLOPs a model and super-batch. Source: JEST (2406.17711), algorithm 1.
    Example: joint: {chunks: 16, gain: 1}
    """

    gain: Schedule = 1.0
    chunks: int = 16
    loss: PairwiseLoss | None = None
    online: Schedule = 1.0
    reference: Schedule = 1.0

    def __post_init__(self) -> None:
        check_gain(self.gain)
        check_weights(online=self.online, reference=self.reference)
        check_count("chunks", self.chunks, "it is the number of parts in which a sub-batch is drawn", least=1)

    def roles(self) -> frozenset[Role]:
        both: tuple[Role, Role] = ("online", "reference")
        return frozenset(role for role in both if getattr(self, role) != 0)

    def needs_pairs(self) -> bool:
        return True

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        """Return S_ii, by which the first chunk is drawn; with softmax losses, the loss among all candidates."""
        parts = self._parts(outputs, progress)
        if parts[0].loss == "softmax":
            return torch.stack([part.weight * part.pairs.softmax_losses().cpu() for part in parts]).sum(0).float()
        return self._growth(outputs, progress)(torch.empty(0, dtype=torch.int64)).float()

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        added, gain = self._growth(outputs, progress), value_at(self.gain, progress)
        chosen = torch.empty(0, dtype=torch.int64)
        check_size(size, len(added(chosen)))
        chunks = max(1, min(self.chunks, size))
        for chunk in torch.arange(size).tensor_split(chunks):  # their sizes differ by at most one
            logits = gain * added(chosen).double().cpu()
            logits[chosen] = -torch.inf
            chosen = torch.cat([chosen, draw(logits, len(chunk), generator)])
        return chosen.sort().values

    def _parts(self, outputs: Mapping[Role, Outputs], progress: float) -> list[_Part]:
        """Return the terms of S, the online model's first."""
        parts: list[_Part] = []
        signs: dict[Role, float] = {"online": 1.0, "reference": -1.0}
        for role, sign in signs.items():
            if role in self.roles():
                pairs = outputs[role]
                if not isinstance(pairs, PairEmbeddings):
                    raise ValueError(f"joint selection needs the {role} model's vectors, and has only its losses")
                loss = self.loss or (parts[0].loss if parts else pairs.loss)
                parts.append(_Part(sign * value_at(getattr(self, role), progress), pairs, loss))
        return parts

    def _growth(self, outputs: Mapping[Role, Outputs], progress: float) -> LossGrowth:
        adds = [
            (part.weight, sigmoid_growth(part.pairs) if part.loss == "sigmoid" else softmax_growth(part.pairs))
            for part in self._parts(outputs, progress)
        ]
        return lambda chosen: torch.stack([weight * added(chosen).cpu() for weight, added in adds]).sum(0)


class _Part(NamedTuple):
    """One model's term of S."""

    weight: float
    pairs: PairEmbeddings
    loss: PairwiseLoss


def sigmoid_growth(pairs: PairEmbeddings) -> LossGrowth:
    """Return the growth under the sigmoid loss: L_ii + sum over chosen k of (L_ik + L_ki)."""
    matrix = pairs.sigmoid_losses()
    alone, both = matrix.diagonal(), matrix + matrix.T
    return lambda chosen: alone + both[:, chosen.to(matrix.device)].sum(1)


def softmax_growth(pairs: PairEmbeddings) -> LossGrowth:
    """Return the growth, under the softmax loss, of the sum over chosen of (row LSE + column LSE) / 2 - own logit."""
    logits = pairs.logits()
    matched = logits.diagonal()

    def added(chosen: Tensor) -> Tensor:
        chosen = chosen.to(logits.device)
        total = -matched
        for way in (logits, logits.T):
            own = torch.cat([way[:, chosen], matched[:, None]], 1).logsumexp(1)  # of the candidate that joins
            known = way[chosen][:, chosen].logsumexp(1)  # of those that are chosen already
            grown = softplus(way[chosen] - known[:, None]).sum(0)  # log(e^known + e^new) - known
            total = total + (own + grown) / 2
        return total

    return added
