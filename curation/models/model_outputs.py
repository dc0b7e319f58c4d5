"""What a model says of a super-batch: all that a selector may look at.

A dual encoder says unit vectors, from which losses follow; a classifier says losses alone, and so does a score table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PairwiseLoss = Literal["sigmoid", "softmax"]


class Outputs(Protocol):
    """B candidates as one model sees them."""

    def losses(self) -> Tensor:
        """float32 `[B]`: how badly the model does on each candidate alone."""
        ...


@dataclass(frozen=True)
class Losses:
    """Losses that somebody has computed already: a classifier's cross-entropies, or a column of a score table."""

    values: Tensor

    def losses(self) -> Tensor:
        return self.values


@dataclass(frozen=True)
class PairEmbeddings:
    """A dual encoder's unit vectors of B pairs, float32 `[B, D]` each, with its temperature and bias, and the loss that
    it was trained with."""

    image: Tensor
    text: Tensor
    temperature: float = 1.0
    bias: float = 0.0
    loss: PairwiseLoss = "softmax"

    def losses(self) -> Tensor:
        """-z_img . z_txt, which needs no other candidate. Source: 2312.05328, section 3 (the loss of actors)."""
        return -(self.image * self.text).sum(-1)

    def softmax_losses(self) -> Tensor:
        """float32 `[B]`: the contrastive loss of each pair among all B, the mean of both directions.

        It takes off what a picture or a caption has in common with all others, as negCLIPLoss does (2405.19547,
        section 3.1; there over whole batches of a pass).
        """
        logits = self.logits()
        return (logits.logsumexp(1) + logits.logsumexp(0)) / 2 - logits.diagonal()

    def logits(self) -> Tensor:
        """float32 `[B, B]`: row i is image i against every caption."""
        return self.temperature * (self.image @ self.text.T) + self.bias

    def sigmoid_losses(self) -> Tensor:
        """float32 `[B, B]`: -log sigmoid of what SigLIP wants of image i and caption j: a match when i = j, else none.

        The batch's loss is the sum of the matrix / B. Source: 2303.15343, algorithm 1.
        """
        logits = self.logits()
        wanted = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -logsigmoid(wanted * logits)


def sub_batch_loss(outputs: PairEmbeddings, rows: Tensor, loss: PairwiseLoss) -> Tensor:
    """The *sum* over the pairs at `rows` of the loss that a learner would have on that sub-batch alone."""
    if loss == "sigmoid":
        return outputs.sigmoid_losses()[rows][:, rows].sum()
    return (
        PairEmbeddings(outputs.image[rows], outputs.text[rows], outputs.temperature, outputs.bias)
        .softmax_losses()
        .sum()
    )
