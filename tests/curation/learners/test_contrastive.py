"""The CLIP learner: its loss against the formula, its schedule, its determinism, and that it learns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch.nn.functional import normalize

from curation.examples import PairBatch
from curation.learners import LEARNERS, learner_class
from curation.learners.contrastive import ClipLearner, StepReport, Training, contrastive_loss, decay_groups, train
from curation.models.architecture import build_model
from curation.models.tokenizer import tokenizer_for


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def batches(n: int = 8, seed: int = 0) -> Iterator[PairBatch]:
    """Colours and their names: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer_for("proxy-mu")([f"number {i}" for i in range(n)])
    colours = torch.randint(0, 256, (n, 1, 1, 3), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    while True:
        order = torch.randperm(n, generator=generator)
        yield PairBatch(colours.expand(n, 64, 64, 3)[order].contiguous(), ids[order])


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


def test_it_learns() -> None:
    _, reports = run(25)
    assert float(reports[0].loss) > 1.5
    assert float(reports[-1].loss) < 0.7 * float(reports[0].loss)


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


def test_no_decay_on_norms_biases_positions_and_temperature() -> None:
    module = build_model("proxy-mu")
    decayed, free = (
        {name for name, p in module.named_parameters() if any(p is q for q in group["params"])}  # type: ignore[attr-defined]
        for group in decay_groups(module, 0.1)
    )
    assert {"logit_scale", "positional_embedding", "visual.class_embedding", "ln_final.weight"} <= free
    assert {"token_embedding.weight", "visual.conv1.weight", "text_projection"} <= decayed
    assert decayed | free == {name for name, _ in module.named_parameters()}


def test_bf16_trains() -> None:
    _, reports = run(2, precision="bf16")
    assert float(reports[-1].loss) < 10


def test_the_encoder_is_a_copy() -> None:
    learner, _ = run(1)
    encoder = learner.encoder()
    before = encoder.text(["number 1"])
    learner.step(next(batches()))
    assert torch.equal(before, encoder.text(["number 1"]))
    assert learner.module.training and all(p.requires_grad for p in learner.module.parameters())


@pytest.mark.parametrize("name", LEARNERS)
def test_the_table(name: str) -> None:
    assert learner_class(name).__doc__
