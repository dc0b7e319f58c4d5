"""Repair on a planted failure: held-out failures become right, the rest stays, and a run repeats to the bit."""

from __future__ import annotations

import pytest
import torch
from marked_pictures import CLASSES, failing, samples

from curation.diagnosis.repair import STRATEGIES, RepairSettings, repair
from curation.diagnosis.repair_samples import judge

SETTINGS = RepairSettings(lr=1e-2, steps=120, fisher=40, keep=0.9, strength=1000.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_fixes_the_planted_failure_and_keeps_the_rest(strategy: str) -> None:
    before = judge(failing(), samples(), CLASSES)
    assert before["failures"]["held_out"]["rate"] == 0 and before["right"]["held_out"]["rate"] == 1
    found = repair(failing(), samples(), CLASSES, strategy, SETTINGS)
    assert found.after["failures"]["held_out"]["rate"] >= 0.9
    assert found.after["right"]["held_out"]["rate"] >= 0.9
    assert set(found.after["right"]["held_out"]["by_class"]) == set(CLASSES)
    assert found.best.fixed >= 0.9 and found.best.kept >= 0.9
    assert found.counts["fisher"] == (40 if strategy == "ewc" else 0)
    assert found.counts["trained"] == found.checks[-1].step * (52 if strategy == "mixed" else 20)
    assert found.counts["judged"] == len(found.checks) * 60


def test_a_repair_repeats_and_its_weights_are_those_that_were_judged() -> None:
    one, other = (repair(failing(), samples(), CLASSES, "mixed", SETTINGS) for _ in range(2))
    assert all(torch.equal(one.weights[name], tensor) for name, tensor in other.weights.items())
    classifier = failing()
    classifier.module.load_state_dict(one.weights)
    assert judge(classifier, samples(), CLASSES) == one.after


def test_the_penalty_holds_the_weights() -> None:
    """With a huge strength nothing moves; the last steps are checked, too."""
    settings = RepairSettings(lr=1e-2, steps=7, strength=1e9, fisher=40)
    held = repair(failing(), samples(), CLASSES, "ewc", settings)
    free = repair(failing(), samples(), CLASSES, "ewc", RepairSettings(lr=1e-2, steps=7, strength=0.0, fisher=40))
    assert [check.step for check in held.checks] == [0, 5, 7]
    start = failing().weights()

    def moved(weights: object) -> float:
        return sum(float((weights[name] - tensor).square().sum()) for name, tensor in start.items())  # type: ignore[index]

    assert moved(held.weights) < moved(free.weights) / 2 or held.best.step == 0


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"steps": 0}, {"keep": 1.1}, {"fisher": 10_001}, {"strength": -1.0}])
def test_settings_out_of_range_name_their_field(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RepairSettings(**wrong)  # type: ignore[arg-type]
