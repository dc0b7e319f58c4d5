"""Replays: another run trains on the recorded choices; and results whose inputs have changed since."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import write_corpus, write_shard
from learning_runs import go

from curation.core.errors import UserError
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.policy import Policy
from curation.storage.store import open_store


@pytest.mark.slow
def test_a_replay_trains_on_the_same_without_scoring(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    first = go(recipe())
    again = go(recipe(f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"))
    assert again["sha256"] == first["sha256"]
    assert again["flops"]["totals"]["scoring"] == first["flops"]["parts"]["learning"]
    assert again["flops"]["totals"]["full"] == first["flops"]["totals"]["full"]  # the choosing was paid, if elsewhere


@pytest.mark.slow
def test_what_was_made_anew_since_is_read_anew(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    """URLs are the same: a policy, a run that is compared with, held-out samples."""
    again = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"
    compared = f"compare={tmp_path}/out", "selection={}", f"output={tmp_path}/compared"
    judged = f"evaluation={tmp_path}/test", "selection={}", f"output={tmp_path}/judged"
    write_corpus(tmp_path / "test", shards=1, n=20, flaws=False)
    go(recipe())
    before = go(recipe(*compared))["against"]
    go(recipe(*judged))
    go(recipe(*again))
    assert all(go(recipe(*more))["reused"] for more in (again, compared, judged))
    (tmp_path / "out").rename(tmp_path / "old")
    assert go(recipe(*compared))["reused"]  # a missing run is no other run
    go(recipe("learner.contrastive.seed=7"))
    with pytest.raises(UserError, match="finished on other data"):
        go(recipe(*again))
    after = go(recipe(*compared))
    assert not after["reused"] and after["against"]["sha256"] != before["sha256"]
    write_shard(tmp_path / "test" / "9.tar", 9, 20, flaws=False)
    with pytest.raises(UserError, match="judged on other held-out samples"):
        go(recipe(*judged))


@pytest.mark.slow
def test_a_policy_with_a_hole_is_not_replayed(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    go(recipe())
    (tmp_path / "out" / "policy" / "steps-00000005.parquet").unlink()
    with pytest.raises(UserError, match="has no steps 5 to 9"):
        go(recipe(f"selection.selector={{replay: {{run: {tmp_path}/out}}}}", f"output={tmp_path}/again"))
    with pytest.raises(UserError, match="has no steps 5 to 9"):
        Policy(open_store(f"{tmp_path}/out/policy")).counts()


@pytest.mark.slow
def test_a_replay_of_less_than_is_wanted_is_refused(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    go(recipe("learner.contrastive.steps=4"))
    replay = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}"
    with pytest.raises(UserError, match="chose 4 times 8 samples, not 12 times 8"):
        go(recipe(replay, f"output={tmp_path}/again"))
