"""`curate what-if` against what `curate run` then makes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from builders import write_corpus, write_recipe, write_shard, write_weights
from click.testing import CliRunner

import curation as cu
from curation.core.cache import cache_folder
from curation.core.errors import IncompleteError, UserError
from curation.curating import column_cache as kept_columns
from curation.curating import planning
from curation.curating.pipeline import pipeline
from curation.ledger import score_tables as scores
from curation.recipes.curation_recipe import load_recipe
from jobs.commands.run import run_steps
from jobs.commands.what_if import what_if

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
FRACTIONS = "filters.top_fraction.fraction=0.2,0.5,0.8"


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(what_if, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, inline: None) -> Path:
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
    assert page.count("src=") == page.count('src="data:image/jpeg;base64,') and "<script" not in page


def test_shards_that_are_not_scored_are_counted(home: Path) -> None:
    write_shard(home / "corpus/00007.tar", 7, 20)
    found = json.loads(invoke(f"{home}/r.yaml", "--json"))
    (home / "corpus/00007.tar").unlink()
    assert found["unscored_shards"] == 1 and found["answers"][0]["setting"] == "as it is"


def test_a_scorer_that_no_filter_reads_and_nobody_has_run_is_no_hindrance(home: Path, tmp_path: Path) -> None:
    document = load_recipe(home / "r.yaml").document
    more = tmp_path / "more.yaml"
    more.write_text(json.dumps({**document, "scorers": [*document["scorers"], {"image_stats": {}}]}))
    assert invoke(str(more), "--json") == invoke(str(home / "r.yaml"), "--json")
    with pytest.raises(IncompleteError, match="they lack image_stats"):
        invoke(str(more), "--set", "filters=[{threshold: {score: image_stats.entropy, min: 1}}]")


@pytest.mark.parametrize("setting", ["limits.max_pixels=1000,2000", "keep=a.parquet,b.parquet", "output=o,p"])
def test_only_filters_may_differ_between_settings(home: Path, setting: str) -> None:
    with pytest.raises(UserError, match=f"changes {setting.partition('=')[0].partition('.')[0]}, and all settings"):
        invoke(f"{home}/r.yaml", "--set", setting)


def kept_files() -> list[Path]:
    return sorted((cache_folder() / "columns").glob("*"))


def test_the_next_question_reads_no_score_table(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = (str(home / "r.yaml"), "--set", FRACTIONS, "--json")
    first = invoke(*command, "--no-keep")
    assert not kept_files()
    assert invoke(*command) == first
    (file,) = kept_files()
    with monkeypatch.context() as patched:
        patched.setattr(scores, "load_units", None)
        patched.setattr(planning, "missing_units", None)
        patched.setattr(scores, "fields", None)
        assert invoke(*command) == first
        assert invoke(str(home / "r.yaml"), "--json") != first  # another question of the same columns
    for damage in (file.read_bytes()[: file.stat().st_size // 2], b"no database", bytes(file.stat().st_size)):
        file.write_bytes(damage)
        assert invoke(*command) == first
    assert kept_files() == [file]
    assert file.parent.stat().st_mode & 0o077 == 0, "other users must not read captions"


def test_what_others_take_away_meanwhile_is_no_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "tutelage" / "columns"
    folder.mkdir(parents=True)
    (folder / "gone.duckdb").symlink_to("nowhere")  # what a file is that goes between being listed and looked at
    left = folder / "killed.part"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    invoke(str(home / "r.yaml"))
    assert len([path for path in kept_files() if not path.is_symlink()]) == 1 and not left.exists()
    monkeypatch.setattr(os, "utime", _refuse)
    with monkeypatch.context() as patched:
        patched.setattr(scores, "load_units", None)
        invoke(str(home / "r.yaml"))  # as if of another user, and still read


def _refuse(*_: object) -> None:
    raise PermissionError


def test_other_columns_are_others(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    invoke(str(home / "r.yaml"))
    semantic = "filters=[{semantic_duplicates: {threshold: 0.9}}]"
    invoke(str(home / "r.yaml"), "--set", semantic)  # reads a vector
    invoke(str(home / "r.yaml"), "--set", "filters=[{image_size: {min_side: 8}}]")  # reads width and height
    assert len(kept_files()) == 3
    monkeypatch.setattr(kept_columns, "MOST_BYTES", 1.5 * kept_files()[0].stat().st_size)
    invoke(str(home / "r.yaml"), "--set", "filters=[{one_of: {column: format, values: [png]}}]")
    assert len(kept_files()) == 1  # the last one
    monkeypatch.setattr(kept_columns, "MOST_BYTES", 1)
    result = CliRunner().invoke(what_if, [str(home / "r.yaml"), "--set", "filters=[]"])
    assert result.exit_code == 0 and "not cached for the next question: it takes" in result.stderr
    assert len(kept_files()) == 1
