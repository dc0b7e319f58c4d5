"""Outputs of a model for a super-batch: everything that a selector may read.

A dual encoder gives unit vectors, from which losses follow; a classifier and a score table give losses alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PairwiseLoss = Literal["sigmoid", "softmax"]


class Outputs(Protocol):
    """Outputs of one model for B candidates."""

    def losses(self) -> Tensor:
        """Loss of each candidate alone, float32 `[B]`."""
        ...


@dataclass(frozen=True)
class Losses:
    """Losses computed elsewhere, float32 `[B]`: a classifier's cross-entropies, or a column of a score table."""

    values: Tensor

    def losses(self) -> Tensor:
        return self.values


@dataclass(frozen=True)
class PairEmbeddings:
    """A dual encoder's outputs for B pairs of image and caption.

    `image`, `text`: unit vectors, float32 `[B, D]`. `temperature`, `bias`: the scale and offset of its logits. `loss`:
    the loss with which the encoder was trained.
    """

    image: Tensor
    text: Tensor
    temperature: float = 1.0
    bias: float = 0.0
    loss: PairwiseLoss = "softmax"

    def losses(self) -> Tensor:
        """-z_img . z_txt of each pair, float32 `[B]`; no other candidate enters. Source: 2312.05328, section 3."""
        return -(self.image * self.text).sum(-1)

    def softmax_losses(self) -> Tensor:
        """Contrastive loss of each pair among all B, float32 `[B]`: the mean of both directions.

        It subtracts the similarity that an image or a caption has with all others, as negCLIPLoss does (2405.19547,
        section 3.1; there over whole batches of a pass).
        """
        logits = self.logits()
        return (logits.logsumexp(1) + logits.logsumexp(0)) / 2 - logits.diagonal()

    def logits(self) -> Tensor:
        """Logits, float32 `[B, B]`: row i is image i against every caption."""
        return self.temperature * (self.image @ self.text.T) + self.bias

    def sigmoid_losses(self) -> Tensor:
        """SigLIP's loss of image i and caption j, float32 `[B, B]`: -log sigmoid(+-logit), + where i = j.

        The loss of the batch is the sum of the matrix divided by B. Source: 2303.15343, algorithm 1.
        """
        logits = self.logits()
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -logsigmoid(signs * logits)
