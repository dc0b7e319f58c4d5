"""A run compared with a uniform one: the savings, and the runs that can't be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import write_shard
from learning_runs import go, start

from curation.core.errors import UserError
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import Payoff
from curation.storage.store import Store


@pytest.mark.slow
def test_a_run_whose_captions_count_in_full_is_no_measure(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    plain = "selection={}", f"output={tmp_path}/uniform"
    go(recipe(*plain))
    path = tmp_path / "uniform" / "summary.json"
    summary = json.loads(path.read_text())
    assert summary["flops"].pop("captions") == "trimmed" and summary["repeated"] == {"candidates": 0, "updates": 0}
    path.write_text(json.dumps(summary))
    found = go(recipe(f"compare={tmp_path}/uniform"))
    assert any("counts captions at their full context" in line for line in found["uncounted"])


@pytest.mark.slow
def test_against_a_uniform_run(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        go(recipe(f"compare={tmp_path}/uniform"))
    uniform = go(recipe("selection={}", f"output={tmp_path}/uniform"))
    assert uniform["flops"]["totals"]["full"] == uniform["flops"]["parts"]["learning"]
    found = go(recipe(f"compare={tmp_path}/uniform"))["against"]
    live = start(recipe(f"compare={tmp_path}/uniform")).live()  # the finished run, at its end
    assert f"({uniform['quality']:.3f}: " in live and "compute_positive: " in live
    assert found["target"] == uniform["quality"] and found["compute_positive"] in (None, False)  # no card: unknown
    assert found["differs"] == [] and found["device_seconds"]["compared"] > 0
    other = go(recipe(f"compare={tmp_path}/uniform", "learner.contrastive.lr=1.0e-3", f"output={tmp_path}/other"))
    assert other["against"]["differs"] == ["lr"] and other["uncounted"][0].startswith("the training of")


@pytest.mark.slow
def test_the_live_line_reads_nothing_for_it_is_written_at_every_step(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(recipe("selection={}", f"output={tmp_path}/uniform"))
    go(recipe(f"compare={tmp_path}/uniform"))
    saved = dict.fromkeys(("scoring", "online", "full"), 0.5)
    monkeypatch.setattr("curation.learning.comparison.payoff", lambda *curves: Payoff(0.1, 6, 0.5, saved))
    run = start(recipe(f"compare={tmp_path}/uniform"))  # its reference has no card
    monkeypatch.setattr(Store, "_read", None)
    assert run.live().endswith("(0.100: after 6 steps, compute_positive: unknown)")


@pytest.mark.slow
def test_a_run_that_is_none_of_a_recipe_is_nothing_to_compare_with(
    recipe: Callable[..., LearnRecipe], tmp_path: Path
) -> None:
    """The output of `curate learn SNAPSHOT` is one; the error comes before any read."""
    (tmp_path / "plain").mkdir()
    shapes = {'{"steps": 3}': "are missing or invalid", "{": "is not JSON", "": "is empty", "[]": "not a JSON object"}
    for text, says in shapes.items():
        (tmp_path / "plain" / "summary.json").write_text(text)
        with pytest.raises(UserError, match=f"holds no learning curve.*{says}"):
            go(recipe(f"compare={tmp_path}/plain"))


@pytest.mark.slow
def test_other_shards_or_another_held_out_set_make_no_fair_comparison(
    recipe: Callable[..., LearnRecipe], corpus: Path, tmp_path: Path
) -> None:
    """The same holds if they are stored at the same URLs."""
    shutil.copytree(corpus, tmp_path / "pool")
    shutil.copytree(corpus, tmp_path / "test")
    places = (f"data={tmp_path}/pool", f"evaluation={tmp_path}/test", f"compare={tmp_path}/uniform")
    go(recipe(*places[:2], "selection={}", f"output={tmp_path}/uniform"))
    assert go(recipe(*places))["against"]["differs"] == []
    for place, says in (("test", "held-out samples"), ("pool", "data")):
        write_shard(tmp_path / place / "9.tar", 9, 20, flaws=False)
        found = go(recipe(*places, f"output={tmp_path}/{place}-changed"))["against"]
        assert says in found["differs"] and ("data" in found["differs"]) == (place == "pool")
        if place == "test":  # the quality of other samples
            assert found["compute_positive"] is None and found["target"] is None and found["compute_saved"] is None
