"""The CLIP learner: its loss against the formula, its schedule, its determinism, and that it learns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch.nn.functional import normalize

from curation.learners.contrastive import ClipLearner
from curation.learners.contrastive_losses import contrastive_loss, sigmoid_loss
from curation.learners.learner import StepReport, train
from curation.learners.training import Training
from curation.models.batches import TrainingBatch
from curation.models.tokenizer import tokenizer_for


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def batches(n: int = 8, seed: int = 0) -> Iterator[TrainingBatch]:
    """Colours and their names: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer_for("proxy-mu")([f"number {i}" for i in range(n)])
    colours = torch.randint(0, 256, (n, 1, 1, 3), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    while True:
        order = torch.randperm(n, generator=generator)
        yield TrainingBatch(colours.expand(n, 64, 64, 3)[order].contiguous(), ids[order])


def run(steps: int, **settings: object) -> tuple[ClipLearner, list[StepReport]]:
    learner = ClipLearner("proxy-mu", Training(steps=steps, batch=8, **settings))  # type: ignore[arg-type]
    reports: list[StepReport] = []
    train(learner, batches(seed=learner.training.seed), reports.append)
    return learner, reports


def test_loss_is_the_formula() -> None:
    torch.manual_seed(0)
    x, y = (normalize(torch.randn(5, 3), dim=1) for _ in range(2))
    expected = 0.0
    for i in range(5):
        rows = torch.exp(10 * x[i] @ y.T)
        columns = torch.exp(10 * x @ y[i])
        expected -= float(torch.log(rows[i] / rows.sum()) + torch.log(columns[i] / columns.sum())) / 10
    assert float(contrastive_loss(x, y, torch.tensor(10.0))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_it_learns() -> None:
    _, reports = run(25)
    assert float(reports[0].loss) > 1.5
    assert float(reports[-1].loss) < 0.7 * float(reports[0].loss)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = (run(3, seed=seed)[0].tensors() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])


def test_schedule() -> None:
    settings = Training(steps=100, lr=1.0, warmup=0.1)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)
    assert Training(steps=1, lr=1.0).rate(0) == 1.0


def test_the_batch_source_may_end_early() -> None:
    learner = ClipLearner("proxy-mu", Training(steps=10))
    train(learner, islice(batches(), 2), lambda report: None)
    assert learner.steps == 2


def test_bf16_trains() -> None:
    _, reports = run(2, precision="bf16")
    assert float(reports[-1].loss) < 10


def test_the_encoder_is_a_copy() -> None:
    learner, _ = run(1)
    encoder = learner.encoder()
    before = encoder.text(["number 1"])
    learner.step(next(batches()))
    assert torch.equal(before, encoder.text(["number 1"]))
    assert all(p.requires_grad for p in learner.module.parameters())


def test_sigmoid_loss_is_the_formula() -> None:
    torch.manual_seed(0)
    x, y = (normalize(torch.randn(5, 3), dim=1) for _ in range(2))
    chances = torch.sigmoid(10 * x @ y.T - 4)
    expected = -sum(
        float(torch.log(chances[i, j] if i == j else 1 - chances[i, j])) for i in range(5) for j in range(5)
    )
    assert float(sigmoid_loss(x, y, torch.tensor(10.0), torch.tensor(-4.0))) == pytest.approx(expected / 5, rel=1e-4)


@pytest.mark.slow
def test_the_sigmoid_learner_learns_and_its_weights_load() -> None:
    learner, reports = run(25, loss="sigmoid")
    assert float(reports[-1].loss) < 0.7 * float(reports[0].loss)
    assert float(learner.tensors()["logit_bias"]) != -10.0
    learner.encoder()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_batch_in_parts_is_the_same_update(loss: str) -> None:
    gradients = []
    for size in (0, 3):
        learner = ClipLearner("proxy-mu", Training(steps=1, batch=8, loss=loss, micro_batch=size, max_norm=1e9))  # type: ignore[arg-type]
        learner.step(next(batches()))
        gradients.append({name: p.grad for name, p in learner.module.named_parameters()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient is not None and other is not None
        assert float((gradient - other).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


def test_averaged_weights() -> None:
    """w' = 0.5 w' + 0.5 w after every step, by hand."""
    settings = {"averaging": 0.5, "schedule": "constant", "warmup": 0.0}
    learner = ClipLearner("proxy-mu", Training(steps=3, batch=8, **settings))  # type: ignore[arg-type]
    average, source = learner.tensors(averaged=False)["visual.proj"], batches()
    for _ in range(3):
        learner.step(next(source))
        average = 0.5 * average + 0.5 * learner.tensors(averaged=False)["visual.proj"]
    assert torch.allclose(learner.tensors()["visual.proj"], average, atol=1e-6)
    assert not torch.equal(learner.tensors()["visual.proj"], learner.tensors(averaged=False)["visual.proj"])


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"loss": "sigmoid", "averaging": 0.9, "micro_batch": 3, "precision": "bf16"}])
def test_a_restored_learner_goes_on_to_the_bit(more: dict[str, object]) -> None:
    whole, stopped, resumed = (
        ClipLearner("proxy-mu", Training(steps=6, batch=8, **more))
        for _ in range(3)  # type: ignore[arg-type]
    )
    given = list(islice(batches(), 6))
    train(whole, given, lambda report: None)
    train(stopped, given[:3], lambda report: None)
    resumed.restore(stopped.state())
    train(resumed, given[3:], lambda report: None)
    one, other = whole.state(), resumed.state()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
