"""Erasing planted samples: the failures go, both classes stay, and the loss that is raised saturates."""

from __future__ import annotations

import pytest
import torch
from marked_pictures import CLASSES, causes, failing, marked, samples

from curation.core.errors import UserError
from curation.diagnosis.erase import EraseSettings, erase, expect_few, unlearned

SETTINGS = EraseSettings(lr=1e-2, steps=150, fisher=40, keep=0.9)


def test_erasing_the_planted_samples_fixes_the_failures_and_keeps_each_class() -> None:
    found = erase(failing(), samples(), causes(), CLASSES, SETTINGS)
    assert found.after["failures"]["held_out"]["rate"] >= 0.9
    assert min(rate["rate"] for rate in found.after["right"]["held_out"]["by_class"].values()) >= 0.9
    assert found.counts["trained"] == found.checks[-1].step * 56 and found.counts["fisher"] == 40
    classifier = failing()
    classifier.module.load_state_dict(found.weights)
    assert classifier.right(marked(40, [1], [1], mark=True, seed=30)).double().mean() >= 0.9


def test_the_control_takes_no_batches_of_kept_samples() -> None:
    settings = EraseSettings(lr=1e-2, steps=20, fisher=40, keep=0.0, kept_batches=False)
    found = erase(failing(), samples(), causes(), CLASSES, settings)
    assert found.counts["trained"] == found.checks[-1].step * 16


def test_the_raised_loss_is_that_of_the_other_answers_and_saturates() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(9) % 3
    p = logits.softmax(1)[torch.arange(9), labels]
    assert float(unlearned(logits, labels)) == pytest.approx(float(-(1 - p).log().mean()))
    for gap, most in ((0.0, 1.0), (20.0, 1e-8)):  # the gradient vanishes once the label's probability has
        one = torch.tensor([[-gap, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(unlearned(one, torch.tensor([0])), [one])
        assert float(gradient.abs().max()) <= most
    assert torch.isfinite(unlearned(torch.tensor([[90.0, -90.0]]), torch.tensor([0])))


def test_more_than_half_of_a_class_is_refused() -> None:
    expect_few(causes(), {0: 60, 1: 60}, CLASSES)
    with pytest.raises(UserError, match="30 of the 59 samples of class bright: more than half"):
        expect_few(causes(), {0: 60, 1: 59}, CLASSES)
