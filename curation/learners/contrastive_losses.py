"""Losses of a batch of n pairs of unit vectors: CLIP's softmax and SigLIP's sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


def contrastive_loss(image: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
    """Return the symmetric InfoNCE of n pairs of unit vectors, float `[n, D]` each. Source: 2103.00020, figure 3."""
    logits = temperature * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def sigmoid_loss(image: Tensor, text: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    """Return SigLIP's loss of n pairs of unit vectors, float `[n, D]` each. Source: 2303.15343, algorithm 1."""
    return sigmoid_rows(temperature * image @ text.T + bias, torch.arange(len(image), device=image.device))


def sigmoid_rows(logits: Tensor, matched: Tensor) -> Tensor:
    """Return SigLIP's loss of r rows of a batch's logits, `[r, n]`, in which row i matches column `matched[i]`."""
    wanted = torch.full_like(logits, -1)
    wanted[torch.arange(len(logits), device=logits.device), matched] = 1
    return -logsigmoid(wanted * logits).sum() / len(logits)
