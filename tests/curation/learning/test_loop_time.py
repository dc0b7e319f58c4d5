"""The time of a learner's loop: its rate, and the measured cost of selection beside the ledger's prediction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from learning_runs import BATCH, STEPS, go, start

from curation.learning import loop_time
from curation.learning.loop_time import LoopTime
from curation.recipes.learning_recipe import LearnRecipe

pytestmark = pytest.mark.slow


class _Time:
    """A clock that moves when a test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class _Model:
    """A timed model, whose seconds are set by hand."""

    def __init__(self, devices: int = 1) -> None:
        self.devices, self.seconds, self.updating, self.scoring = devices, 0.0, 0.0, 0.0

    def update(self, seconds: float) -> None:
        self.updating += seconds
        self.seconds += self.devices * seconds


def test_rate_and_cost_of_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, learner, online = _Time(), _Model(devices=2), _Model()
    monkeypatch.setattr(loop_time, "time", clock)
    flops = {"learning": 0.0, "scoring": 0.0, "online": 0.0, "reference": 7.0}
    loop = LoopTime({"learner": learner, "online": online}, lambda: flops)  # type: ignore[dict-item]
    for seconds in (100.0, 8.0, 8.0):  # the first update imports, and does not count
        clock.now += seconds + 1  # an update, and a second of everything else
        learner.update(seconds)
        online.seconds += 4  # scoring of another process
        flops = {name: flops[name] + {"learning": 8.0, "scoring": 1.0}.get(name, 0.0) for name in flops}
        with loop.apart():
            clock.now += 50  # a checkpoint
        loop.waited(0.25)
        loop.updated()
    found = loop.document()
    assert found is not None
    assert found["updates"] == 2 and found["rate"] == pytest.approx(16 / 18, abs=1e-4)
    assert found["seconds"] == {"loop": 18, "updating": 16, "waiting": 0.5, "scoring": 0, "small_models": 0}
    assert found["selection"] == {"measured": 0.25, "predicted": 0.125, "difference": 0.125}


def test_no_figures_of_fewer_than_two_updates() -> None:
    loop = LoopTime({"learner": _Model()}, dict)  # type: ignore[dict-item]
    assert loop.document() is None


@pytest.mark.parametrize("selector", ["learnability: {gain: 10}", "uniform: {}"])
def test_a_run_reports_its_overhead(recipe: Callable[..., LearnRecipe], selector: str) -> None:
    found = go(recipe(f"selection.selector={{{selector}}}"))
    overhead, seconds = found["overhead"], found["overhead"]["seconds"]
    assert overhead["updates"] == STEPS - 1 and 0 < overhead["rate"] <= 1
    assert seconds["loop"] >= seconds["updating"] + seconds["scoring"] + seconds["small_models"] - 0.01
    assert seconds["waiting"] == 0
    if selector.startswith("uniform"):
        assert overhead["selection"] is None and seconds["scoring"] == 0
    else:  # the ledger's: B = 2 b candidates by two models for 3 passes, and an online model of the learner's size
        assert overhead["selection"]["predicted"] == pytest.approx(2 * 2 / 3 + 1, rel=1e-3)
        assert seconds["scoring"] > 0 and seconds["small_models"] > 0


def test_a_resumed_run_counts_from_there(recipe: Callable[..., LearnRecipe]) -> None:
    run = start(recipe())
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    assert go(recipe())["overhead"]["updates"] == STEPS - 5 - 1


def test_unscored_candidates_are_not_read(recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch) -> None:
    run, read = start(recipe("selection.selector={uniform: {}}")), []
    rows = run.pool.rows
    monkeypatch.setattr(run.pool, "rows", lambda found: read.append(len(found)) or rows(found))
    for step in run.steps():
        run.record(step)
    assert read == [BATCH] * STEPS, "once a step, for the update alone"
