"""Joint selection (JEST): a sub-batch that is learnable *together*, drawn in chunks.

When to use: contrastive learners with room for B x B matrices, and high filtering ratios (0.8): the negatives that a
pair brings to the others count as well as the pair itself. Independent selection is `chunks: 1`.

With L the matrix of pairwise losses of a model and S = L_online - L_ref, the first b / N samples are drawn with
probability softmax(gain * S_ii), and each further chunk with

    softmax(gain * (S_ii + sum over chosen k of (S_ik + S_ki)))        chosen ones masked

which is what adding i to the chosen adds to the batch's summed loss. The sigmoid loss adds up over pairs, so L is a
matrix; the softmax loss does not, and there the same quantity is computed from running log-sum-exps: what adding i to
the chosen adds to the sum of their symmetric InfoNCE losses (the first chunk is then uniform, as one pair has no loss).
Source: JEST, 2406.17711, section 2.2 and the algorithm of its appendix (with a gain of 1). Cost: 2 B^2 D FLOPs a model,
and N passes over B^2 numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from curation.core.ranges import check_count
from curation.models.model_outputs import Outputs, PairEmbeddings, PairwiseLoss
from curation.selectors.draw import Schedule, at, check_gain, check_size, check_weights, draw

Added = Callable[[Tensor], Tensor]  # rows chosen so far -> [B], what adding each row adds to the summed loss


@dataclass(frozen=True, kw_only=True)
class Joint:
    """JEST: chunks of pairs that are learnable together. `online` and `reference` as in `blend`.

    When to use: contrastive learners, and high filtering ratios: the negatives that a pair brings count, too. Of S =
    L_online - L_ref, matrices of pairwise losses, the next chunk is drawn with probability softmax(gain * (S_ii + what
    those drawn so far add)). `loss`: nothing said, the one that the online model (or the reference, if it is alone) was
    trained with; JEST's models are sigmoid ones. Cost: a forward pass of both models a candidate, and 2 B^2 D FLOPs a
    model and super-batch. Source: JEST (2406.17711), algorithm 1.
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
        check_count("chunks", self.chunks, "a sub-batch is drawn in so many parts", least=1)

    def roles(self) -> frozenset[Any]:
        return frozenset(role for role in ("online", "reference") if getattr(self, role) != 0)

    def scores(self, outputs: Mapping[Any, Outputs], progress: float) -> Tensor:
        """S_ii, what the first chunk is drawn by; of softmax losses, which are 0 for a pair alone, those among all."""
        parts = self._parts(outputs, progress)
        if parts[0].loss == "softmax":
            return torch.stack([part.weight * part.pairs.softmax_losses().cpu() for part in parts]).sum(0).float()
        return self._added(outputs, progress)(torch.empty(0, dtype=torch.int64)).float()

    def select(self, outputs: Mapping[Any, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        added, gain = self._added(outputs, progress), at(self.gain, progress)
        chosen = torch.empty(0, dtype=torch.int64)
        check_size(size, len(added(chosen)))
        for chunk in torch.arange(size).tensor_split(
            max(1, min(self.chunks, size))
        ):  # their sizes differ by one at most
            logits = gain * added(chosen).double().cpu()
            logits[chosen] = -torch.inf
            chosen = torch.cat([chosen, draw(logits, len(chunk), generator)])
        return chosen.sort().values

    def _parts(self, outputs: Mapping[Any, Outputs], progress: float) -> list[_Part]:
        """The models that are asked, the online one first."""
        parts: list[_Part] = []
        for role, sign in (("online", 1.0), ("reference", -1.0)):
            if role in self.roles():
                pairs = outputs[role]
                if not isinstance(pairs, PairEmbeddings):
                    raise ValueError(f"joint selection needs the {role} model's vectors, and has only its losses")
                loss = self.loss or (parts[0].loss if parts else pairs.loss)
                parts.append(_Part(sign * at(getattr(self, role), progress), pairs, loss))
        return parts

    def _added(self, outputs: Mapping[Any, Outputs], progress: float) -> Added:
        adds = [
            (part.weight, sigmoid_added(part.pairs) if part.loss == "sigmoid" else softmax_added(part.pairs))
            for part in self._parts(outputs, progress)
        ]
        return lambda chosen: torch.stack([weight * added(chosen).cpu() for weight, added in adds]).sum(0)


class _Part(NamedTuple):
    """What one model adds to S."""

    weight: float
    pairs: PairEmbeddings
    loss: PairwiseLoss


def sigmoid_added(pairs: PairEmbeddings) -> Added:
    """L_ii + sum over chosen k of (L_ik + L_ki)."""
    matrix = pairs.sigmoid_losses()
    alone, both = matrix.diagonal(), matrix + matrix.T
    return lambda chosen: alone + both[:, chosen.to(matrix.device)].sum(1)


def softmax_added(pairs: PairEmbeddings) -> Added:
    """The growth of sum over chosen of (LSE of its row + LSE of its column) / 2 - its own logit."""
    logits = pairs.logits()
    matched = logits.diagonal()

    def added(chosen: Tensor) -> Tensor:
        chosen = chosen.to(logits.device)
        total = -matched
        for way in (logits, logits.T):
            own = torch.cat([way[:, chosen], matched[:, None]], 1).logsumexp(1)  # of the candidate that comes
            known = way[chosen][:, chosen].logsumexp(1)  # of those that are there already
            grown = softplus(way[chosen] - known[:, None]).sum(0)  # log(e^known + e^new) - known
            total = total + (own + grown) / 2
        return total

    return added
