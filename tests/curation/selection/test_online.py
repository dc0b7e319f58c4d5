"""The loop against the paper: who is scored, what is trained on, and that a stopped run goes on to the bit."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from curation.learners.contrastive import ClipLearner
from curation.learners.training import Training
from curation.models.batches import Examples, SuperBatch
from curation.models.model_outputs import Losses
from curation.models.tokenizer import tokenizer_for
from curation.selection.online import Choice, OnlineStep, Roles, TableScores, online_selection
from curation.selection.pool import Pool
from curation.selectors.blend import EasyReference, Learnability
from curation.selectors.joint import Joint
from curation.selectors.schedule import Ramp
from curation.selectors.selection_settings import SelectionSettings


class Counting:
    """A learner whose loss of sample i is i minus what it has been trained on it: a model of two numbers."""

    def __init__(self) -> None:
        self.steps = 0
        self.trained: list[list[int]] = []
        self.asked: list[int] = []

    def step(self, batch: Any) -> None:
        self.steps += 1
        self.trained.append(batch.targets[:, 0].tolist())

    def outputs(self, candidates: SuperBatch) -> Losses:
        self.asked.append(len(candidates.rows))
        return Losses(candidates.batch.targets[:, 0].float())

    def fingerprint(self) -> str:
        return f"after {self.steps}"


def pool(count: int = 40, seed: int = 0, losses: torch.Tensor | None = None) -> Pool:
    names = [str(i) for i in range(count)]
    examples = Examples(np.zeros((count, 2, 2, 3), np.uint8), names, names, [""] * count)
    targets = torch.arange(count)[:, None]
    return Pool.of(examples, targets, seed, losses=losses)


def run(roles: Roles[Any], selection: SelectionSettings, steps: int, **options: Any) -> list[OnlineStep]:
    return list(online_selection(roles, options.pop("pool", pool()), selection, steps=steps, batch=4, **options))


def test_uniform_runs_no_model_and_is_ordinary_training() -> None:
    learner, source = Counting(), pool()
    steps = run(Roles(learner=learner), SelectionSettings(), 7)
    assert learner.asked == [] and all(step.choice.scores is None for step in steps)
    assert learner.trained == [source.draw(4).rows.tolist() for _ in range(7)]


def test_the_top_by_learnability_trains_both_models() -> None:
    learner, online = Counting(), Counting()
    source = pool(losses=torch.arange(40) * 3.0)  # learnability is i - 3i: the lower the number, the better
    steps = run(Roles(learner=learner, online=online, reference=TableScores()),
                SelectionSettings(selector=Learnability(pick="top"), filtering_ratio=0.5), 5, pool=source)  # fmt: skip
    for step, trained in zip(steps, learner.trained, strict=True):
        assert len(step.choice.candidates) == 8
        assert sorted(trained) == sorted(step.choice.candidates.tolist())[:4]
        assert step.choice.scores is not None and step.choice.scores.tolist() == [
            -2.0 * row for row in step.choice.candidates.tolist()
        ]
    assert online.trained == learner.trained and online.asked == [8] * 5 and learner.asked == []


def test_the_learner_may_be_its_own_online_model() -> None:
    learner = Counting()
    run(Roles(learner=learner, online=learner, reference=TableScores()), SelectionSettings(selector=Learnability()), 5,
        pool=pool(losses=torch.zeros(40)))  # fmt: skip
    assert learner.steps == 5 and learner.asked == [8] * 5


def test_a_reference_may_learn_beside_the_learner_on_its_own_pool() -> None:
    reference = Counting()
    trusted = pool(seed=5)
    run(
        Roles(learner=Counting(), reference=reference, reference_pool=trusted),
        SelectionSettings(selector=EasyReference()),
        3,
    )
    again = pool(seed=5)
    assert reference.trained == [again.draw(4).rows.tolist() for _ in range(3)]


def test_ratio_and_stop_follow_their_schedules() -> None:
    reference = Counting()
    selection = SelectionSettings(
        selector=EasyReference(), filtering_ratio=Ramp(start=0.8, end=0.5, until=0.4), stop=0.8
    )
    steps = run(Roles(learner=Counting(), reference=reference), selection, 10)
    assert [len(step.choice.candidates) for step in steps] == [20, 15, 11, 9, 8, 8, 8, 8, 4, 4]
    assert len(reference.asked) == 8


def test_with_a_lag_older_models_choose_and_a_stopped_run_goes_on() -> None:
    selection = SelectionSettings(selector=Learnability(), lag=3, publish_every=2)

    def who() -> Roles[Any]:
        return Roles(learner=Counting(), online=Counting(), reference=TableScores())

    def source() -> Pool:
        return pool(losses=torch.arange(40) * 3.0)

    steps = run(who(), selection, 12, pool=source())
    for step in steps:
        version = selection.version(step.number)
        assert step.choice.models["online"] == f"after {version}" and step.choice.lag == step.number - version <= 3
    assert [step.choice.lag for step in steps] == [0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3]
    for stop in range(1, 12):
        roles, candidates, pending = who(), source(), deque[Choice]()
        options = {"steps": 12, "batch": 4, "pending": pending}
        for step in online_selection(roles, candidates, selection, **options):  # type: ignore[arg-type]
            if step.number + 1 == stop:
                break
        rest = list(online_selection(roles, candidates, selection, **options))  # type: ignore[arg-type]
        assert [step.number for step in rest] == list(range(stop, 12))
        for ours, theirs in zip(rest, steps[stop:], strict=True):
            assert ours.choice.rows.tolist() == theirs.choice.rows.tolist()
            assert ours.choice.models == theirs.choice.models


def test_what_can_not_be() -> None:
    with pytest.raises(ValueError, match="there is none"):
        run(Roles(learner=Counting()), SelectionSettings(selector=Learnability()), 1)
    with pytest.raises(ValueError, match="filtering ratio is 1"):
        run(Roles(learner=Counting()), SelectionSettings(selector=EasyReference(), filtering_ratio=1.0), 1)


@pytest.mark.slow
@pytest.mark.parametrize("selector", [Learnability(), Joint(chunks=2)], ids=lambda selector: type(selector).__name__)
def test_a_run_that_was_stopped_goes_on_to_the_bit(selector: Any) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    captions = [f"number {i}" for i in range(24)]
    examples, tokenize = Examples(pixels, captions, captions, captions), tokenizer_for("proxy-mu")
    reference = ClipLearner("proxy-mu", Training(seed=9))
    selection = SelectionSettings(selector=selector)

    def fresh() -> tuple[Roles[Any], Pool]:
        models = [ClipLearner("proxy-mu", Training(steps=6, batch=4, seed=seed)) for seed in (1, 2)]
        return Roles(learner=models[0], online=models[1], reference=reference), Pool.of(examples, tokenize)

    whole, candidates = fresh()
    expected = run(whole, selection, 6, pool=candidates)
    stopped, before = fresh()
    for step in online_selection(stopped, before, selection, steps=6, batch=4):
        if step.number == 2:
            break
    resumed, after = fresh()
    resumed.learner.restore(stopped.learner.state())  # type: ignore[attr-defined]
    resumed.online.restore(stopped.online.state())  # type: ignore[union-attr]
    after.place = before.place
    rest = run(resumed, selection, 6, pool=after)
    assert [step.number for step in rest] == [3, 4, 5]
    for ours, theirs in zip(rest, expected[3:], strict=True):
        assert torch.equal(ours.choice.candidates, theirs.choice.candidates) and torch.equal(
            ours.choice.chosen, theirs.choice.chosen
        )
    for name in ("learner", "online"):
        one, other = getattr(whole, name).state(), getattr(resumed, name).state()
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
