"""A run from its recipe: what it writes, and how it resumes, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import write_corpus, write_shard
from learning_runs import BATCH, STEPS, go, start
from tiny_model import TINY

from curation.core.errors import UserError
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.policy import Policy
from curation.storage.store import open_store

pytestmark = pytest.mark.slow


def test_what_a_run_leaves(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    found = go(recipe())
    assert found["steps"] == STEPS and not found["reused"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 5, 10, 12]
    assert [row["step"] for row in rows if "quality" in row] == [6, 12]
    tenth = next(row for row in rows if row["step"] == 10)
    assert sum(tenth["scores"]["counts"]) == 5 * 2 * BATCH  # since the checkpoint, which holds nothing of a line
    shares = tenth["chosen_share"]["name"].values()
    assert all(0 <= share <= 1 for share in shares) and len(set(shares)) > 1
    steps = list(Policy(open_store(f"{tmp_path}/out/policy")).steps())
    assert [step.number for step in steps] == list(range(STEPS))
    assert all(len(step.candidates) == 2 * BATCH and len(step.chosen) == BATCH for step in steps)
    parts = found["flops"]["parts"]
    assert parts["online"] == parts["learning"]  # the same model on the same samples
    assert parts["scoring"] == pytest.approx(parts["learning"] * 2 * 2 / 3)  # B = 2 b, two models, forward alone
    assert go(recipe())["reused"]
    assert go(recipe("learner.contrastive.lr=1.0e-3", f"output={tmp_path}/other"))["sha256"] != found["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "lag"), [(1, 0), (5, 3), (7, 0), (11, 3)])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, stop: int, lag: int
) -> None:
    averaged = ("learner.contrastive.averaging=0.9", f"selection.lag={lag}")
    straight = go(recipe(*averaged, f"output={tmp_path}/straight"))
    run = start(recipe(*averaged))
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == stop:
            break  # as if killed: nothing after the last checkpoint is known
    found = go(recipe(*averaged))
    assert found["sha256"] == straight["sha256"]
    assert found["flops"] == straight["flops"] and found["curve"] == straight["curve"]
    policies = [list(Policy(open_store(f"{tmp_path}/{name}/policy")).steps()) for name in ("straight", "out")]
    for ours, theirs in zip(*policies, strict=True):
        assert ours.number == theirs.number and ours.candidates.tolist() == theirs.candidates.tolist()
        assert ours.chosen.tolist() == theirs.chosen.tolist()
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "out")]
    for one, other in zip(*(map(json.loads, some) for some in lines), strict=True):
        assert _undated(one) == _undated(other)


def _undated(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "samples_per_second"}


@pytest.mark.slow
def test_a_curve_is_of_one_held_out_set(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    write_corpus(tmp_path / "test", shards=1, n=20, flaws=False)
    judged = recipe(f"evaluation={tmp_path}/test", "evaluate_every=2")
    run = start(judged)
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    write_shard(tmp_path / "test" / "9.tar", 9, 20, flaws=False)
    assert [point["updates"] for point in go(judged)["curve"]] == [6, 8, 10, 12]


def test_scores_that_are_no_numbers_choose_nothing(recipe: Callable[..., LearnRecipe]) -> None:
    run = start(recipe())
    assert run.participants.reference is not None
    with torch.no_grad():
        for parameter in run.participants.reference.module.parameters():  # type: ignore[union-attr]
            parameter.fill_(float("nan"))
    with pytest.raises(UserError, match="16 of 16 scores are not finite at step 1"):
        next(run.steps())


@pytest.mark.slow
def test_other_data_at_a_restart(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    run = start(recipe())
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    newer = write_corpus(tmp_path / "newer", shards=3, n=40, flaws=False)
    found = go(recipe(f"data={newer}"))
    assert found["steps"] == STEPS
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("event") == "other data"] == [5]
    policy = Policy(open_store(f"{tmp_path}/out/policy"))
    assert sum(policy.counts().values()) == STEPS * BATCH
    with pytest.raises(UserError, match="finished on other data"):
        go(recipe())


@pytest.mark.slow
def test_what_is_not_as_the_recipe_says_is_told(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample has a field nosuch"):
        start(recipe("by=[name, nosuch]"))
    found = go(recipe("selection.filtering_ratio=0.99"))
    assert found["cut"] == {"wanted": 100 * BATCH, "pool": found["samples"]["pool"]}
    classes = f"learner={{classification: {{model: {TINY}, steps: 2, batch: 8}}}}", "selection={}", "reference=null"
    with pytest.raises(UserError, match="another kind of learner"):
        go(recipe(*classes, f"output={tmp_path}/classes", f"compare={tmp_path}/out"))


@pytest.mark.slow
def test_another_run_does_not_go_on_from_these_checkpoints(recipe: Callable[..., LearnRecipe]) -> None:
    go(recipe())
    with pytest.raises(UserError, match="another run"):
        go(recipe("learner.contrastive.lr=1.0e-3"))


@pytest.mark.slow
def test_weights_that_are_gone_are_made_again(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    first = go(recipe())
    (tmp_path / "out" / first["key"]).unlink()
    again = go(recipe())
    assert not again["reused"] and again["sha256"] == first["sha256"] and (tmp_path / "out" / first["key"]).exists()


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_costs_the_steps_since_the_one_before(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    straight = go(recipe(f"output={tmp_path}/straight"))
    run = start(recipe())
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 11:
            break
    newest = sorted((tmp_path / "out" / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert start(recipe()).learner.steps == 5
    assert go(recipe())["sha256"] == straight["sha256"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["checkpoint"] for row in rows if "checkpoint" in row] == [f"checkpoints/{newest.name}"]


@pytest.mark.slow
def test_no_limit_of_the_gradients_is_no_multiplication_by_nothing(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    found = go(recipe("learner.contrastive.max_norm=0"))
    huge = go(recipe("learner.contrastive.max_norm=1.0e9", f"output={tmp_path}/huge"))
    assert found["sha256"] == huge["sha256"]
