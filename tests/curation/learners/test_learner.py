"""Behaviour that all learners share: scoring changes no weight, and both work at a reduced size (Flexi-JEST)."""

from __future__ import annotations

import pytest
import torch

from curation.learners.contrastive import ClipLearner
from curation.learners.training import Training
from curation.models.batches import SuperBatch, TrainingBatch
from curation.models.tokenizer import tokenizer_for


def batch(count: int = 8) -> TrainingBatch:
    pixels = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TrainingBatch(pixels, tokenizer_for("proxy-mu")([f"a picture {row}" for row in range(count)]))


def learner(**settings: object) -> ClipLearner:
    return ClipLearner("proxy-mu", Training(steps=2, batch=8, **settings))  # type: ignore[arg-type]


@pytest.mark.slow
def test_scores_at_the_scoring_size_and_trains_a_share_there() -> None:
    one, flexible = learner(), learner(scoring_size=32, reduced=0.5)
    candidates = SuperBatch(torch.arange(8), batch())
    assert not torch.allclose(one.outputs(candidates).image, flexible.outputs(candidates).image, atol=1e-3)
    assert torch.equal(one.outputs(candidates).text, flexible.outputs(candidates).text)
    image = one.encode(batch())[0], flexible.encode(batch())[0]
    assert torch.allclose(image[0][::2], image[1][::2], atol=1e-6)  # every second one is reduced
    assert not torch.allclose(image[0][1::2], image[1][1::2], atol=1e-3)
    whole, parts = learner(scoring_size=32, reduced=0.3), learner(scoring_size=32, reduced=0.3, micro_batch=3)
    assert whole.step(batch()).loss.item() == pytest.approx(parts.step(batch()).loss.item(), rel=1e-5)


@pytest.mark.parametrize("size", [24, 33])
def test_a_size_that_the_patches_do_not_divide_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        learner(scoring_size=size).outputs(SuperBatch(torch.arange(8), batch()))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"scoring_size": 32}, {"scoring_size": 32, "reduced": 0.5}])
def test_scoring_changes_no_bit_of_training(settings: dict[str, object]) -> None:
    """A cluster's learner never scores, and a resumed one has not scored yet: all three must end with equal bits."""
    silent, asked = (learner(max_norm=0.1, **settings) for _ in range(2))
    for _ in range(3):
        asked.outputs(SuperBatch(torch.arange(8), batch()))
        norms = silent.step(batch()).gradient_norm, asked.step(batch()).gradient_norm
        assert torch.equal(*norms)
    order = [[name for name, _ in one.module.named_parameters()] for one in (silent, asked)]
    assert order[0] == order[1]  # the order in which the gradients' norm is summed
    one, other = silent.state(), asked.state()
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_an_update_draws_no_random_number() -> None:
    """Dropout and stochastic depth would be drawn from a generator that no checkpoint holds."""
    one = learner()
    one.module.visual.transformer.resblocks[0].add_module("ln_1", torch.nn.Dropout(0.5).eval())  # type: ignore[union-attr]
    assert not any(part.training for part in one.module.modules())
    assert torch.equal(one.encode(batch())[0], one.encode(batch())[0])
    one.step(batch())
    assert not any(part.training for part in one.module.modules())
