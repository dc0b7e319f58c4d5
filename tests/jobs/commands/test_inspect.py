"""Commands that look at a dataset: what they print for people and for machines is what the library says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from damaged_tree import Tree
from running import command

import curation as cu
from curation.dataset.diff import diff
from curation.dataset.quarantined import whole_shards
from curation.dataset.summary import summary


@pytest.mark.slow
def test_show(tree: Tree) -> None:
    """The latest snapshot where no number is given."""
    for url, number in ((str(tree.out), 3), (f"{tree.out}@1", 1)):
        assert json.loads(command("show", url, "--json")) == json.loads(json.dumps(summary(cu.open(url))))
        samples = cu.open(url).document["samples"]
        text = command("show", url)
        assert f"{samples['kept']:,}" in text and str(number) in text
        assert all(reason in text for reason in [*samples["filtered"], *samples["quarantined"]])


def test_urls_are_one_a_line_for_another_program(tree: Tree) -> None:
    urls = command("show", str(tree.out), "--urls").split()
    assert urls == cu.open(str(tree.out)).urls and all(Path(url).exists() for url in urls)


def test_diff(tree: Tree) -> None:
    one, other = f"{tree.out}@1", f"{tree.out}@2"
    wanted = diff(cu.open(one), cu.open(other))
    assert wanted["left"] > 0, "the second keeps less"
    found = json.loads(command("diff", one, other, "--json"))
    assert {key: found[key] for key in wanted} == json.loads(json.dumps(wanted))
    assert f"{wanted['left']:,}" in command("diff", one, other)


@pytest.mark.parametrize("reason", [None, "tar_not_a_tar", "image_truncated"])
def test_quarantine_lists_samples_and_whole_shards(tree: Tree, reason: str | None) -> None:
    snapshot = cu.open(str(tree.out))
    wanted = {row["source_key"] for row in snapshot.manifest.quarantined(reason, limit=1000)}
    wanted |= {row["source_key"] for row in whole_shards(snapshot, reason)}
    chosen = ["--reason", reason] if reason else []
    rows = json.loads(command("quarantine", "ls", str(tree.out), "--limit", "1000", "--json", *chosen))
    assert {row["source_key"] for row in rows} == wanted != set()
    assert reason is None or {row["reason"] for row in rows} == {reason}
    assert len(json.loads(command("quarantine", "ls", str(tree.out), "--limit", "2", "--json"))) == 2


def test_status_of_a_finished_recipe_and_of_a_changed_one(tree: Tree, finished_dataset: Path) -> None:
    recipe = str(finished_dataset / "here" / "recipe.yaml")
    found = json.loads(command("status", recipe, "--json"))
    assert (found["snapshot"], found["up_to_date"]) == (3, True) and found["scored"] == found["units"] == 5
    changed = json.loads(command("status", recipe, "--json", "--set", "filters.top_fraction.fraction=0.1"))
    assert (changed["snapshot"], changed["up_to_date"]) == (3, False) and changed["scored"] == 5, "nothing to score"
    assert "up to date" in command("status", recipe)
