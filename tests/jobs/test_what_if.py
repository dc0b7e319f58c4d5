"""`curate what-if` against what `curate run` then makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import write_corpus, write_recipe, write_shard, write_weights
from click.testing import CliRunner

import curation as cu
from curation.errors import IncompleteError, UserError
from curation.recipe import load_recipe
from jobs.pipeline import pipeline
from jobs.run import run_steps
from jobs.what_if import what_if

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
FRACTIONS = "filters.top_fraction.fraction=0.2,0.5,0.8"


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(what_if, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    root = tmp_path_factory.mktemp("what-if")
    write_corpus(root / "corpus", 2, 40)
    sha = write_weights(root / "w.safetensors")
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", f"{root}/w.safetensors", sha)
    with pytest.raises(IncompleteError, match="none of the shards has been scored"):
        invoke(str(recipe))
    with pipeline(load_recipe(recipe)) as work:
        run_steps(work, None)
    return root


def test_answers_are_what_runs_make(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    found: dict[str, Any] = json.loads(invoke(f"{home}/r.yaml", "--set", FRACTIONS, "--json"))
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before, "something was written"
    low, same, high = found["answers"]
    snapshot = cu.open(f"{home}/out").document["samples"]
    assert same["samples"] == snapshot and same["overlap"]["jaccard"] == 1
    assert low["overlap"]["entering"] == 0 and low["overlap"]["leaving"] > 0 == high["overlap"]["leaving"]
    with pipeline(load_recipe(home / "r.yaml", ["filters.top_fraction.fraction=0.8", f"output={home}/high",
                                                f"scores={home}/out/scores"])) as work:  # fmt: skip
        assert run_steps(work, None)["samples"] == high["samples"]
    assert [step["filter"] for step in low["steps"]] == ["caption", "exact_duplicates", "top_fraction"]
    assert len(low["near"]["top_fraction"]) == 6


def test_table_and_page(home: Path, tmp_path: Path) -> None:
    text = invoke(f"{home}/r.yaml", "--set", FRACTIONS, "--html", f"{tmp_path}/page.html")
    assert text.count("filters.top_fraction.fraction=") == 3 and "top_fraction 50" in text
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.count("near the limit of top_fraction") == 3
    assert "src=" not in page and "<script" not in page


def test_shards_that_are_not_scored_are_counted(home: Path) -> None:
    write_shard(home / "corpus/00007.tar", 7, 20)
    found = json.loads(invoke(f"{home}/r.yaml", "--json"))
    (home / "corpus/00007.tar").unlink()
    assert found["unscored_shards"] == 1 and found["answers"][0]["setting"] == "as it is"


@pytest.mark.parametrize("setting", ["limits.max_pixels=1000,2000", "keep=a.parquet,b.parquet", "output=o,p"])
def test_only_filters_may_differ_between_settings(home: Path, setting: str) -> None:
    with pytest.raises(UserError, match=f"changes {setting.partition('=')[0].partition('.')[0]}, and all settings"):
        invoke(f"{home}/r.yaml", "--set", setting)
