"""Outputs of small models for the tests of selectors, and the loss that a sub-batch would have."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize

from curation.models.model_outputs import PairEmbeddings, PairwiseLoss


def pairs(count: int, seed: int, temperature: float = 5.0, bias: float = -2.0) -> PairEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(count, 6, generator=generator), dim=-1) for _ in range(2))
    return PairEmbeddings(image, text, temperature, bias)


def outputs(count: int = 12) -> dict[Any, PairEmbeddings]:
    return {"online": pairs(count, 1), "reference": pairs(count, 2)}


def sub_batch_loss(outputs: PairEmbeddings, rows: torch.Tensor, loss: PairwiseLoss) -> torch.Tensor:
    """The summed loss that a learner would have on the pairs at `rows` alone."""
    if loss == "sigmoid":
        return outputs.sigmoid_losses()[rows][:, rows].sum()
    return (
        PairEmbeddings(outputs.image[rows], outputs.text[rows], outputs.temperature, outputs.bias)
        .softmax_losses()
        .sum()
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
