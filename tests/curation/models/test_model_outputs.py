"""Losses of a dual encoder's outputs, each against a plain loop over the pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from curation.models.model_outputs import Losses, PairEmbeddings


def pairs(count: int = 6, seed: int = 0) -> PairEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(count, 5, generator=generator), dim=-1) for _ in range(2))
    return PairEmbeddings(image, text, temperature=4.0, bias=-1.5)


def logit(found: PairEmbeddings, i: int, j: int) -> float:
    return found.temperature * float(found.image[i] @ found.text[j]) + found.bias


def test_the_loss_of_a_pair_alone_is_its_negative_cosine() -> None:
    found = pairs()
    cosines = [float(i @ t) for i, t in zip(found.image, found.text, strict=True)]
    assert found.losses().tolist() == pytest.approx([-cosine for cosine in cosines], abs=1e-6)
    column = torch.tensor([0.5, 2.0])
    assert torch.equal(Losses(column).losses(), column)


def test_the_softmax_loss_is_the_mean_of_both_directions() -> None:
    found, n = pairs(), 6
    for i, loss in enumerate(found.softmax_losses().tolist()):
        across = math.log(sum(math.exp(logit(found, i, j)) for j in range(n)))
        down = math.log(sum(math.exp(logit(found, j, i)) for j in range(n)))
        assert loss == pytest.approx((across + down) / 2 - logit(found, i, i), abs=1e-5)


def test_the_sigmoid_losses_are_those_of_every_pair() -> None:
    found = pairs()
    for i in range(6):
        for j in range(6):
            sign = 1 if i == j else -1
            wanted = math.log(1 + math.exp(-sign * logit(found, i, j)))
            assert float(found.sigmoid_losses()[i, j]) == pytest.approx(wanted, abs=1e-5)
