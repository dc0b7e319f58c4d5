"""Which executor a command takes, and what it reports about it."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from builders import PLAIN, write_corpus, write_recipe

from jobs import engine
from jobs.cli import _main
from jobs.engine import MOST_BYTES, MOST_SAMPLES, MOST_UNITS, Choice, named, of_samples, of_units


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engine, "connected", lambda: None)


def test_an_option_or_a_named_cluster_settles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named("auto", None) is None
    assert named("local", None) == Choice("local", "--executor") and named("ray", None) == Choice("ray", "--executor")
    assert named("auto", "ray://head:10001") == Choice("ray", "--address names a cluster")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert named("auto", None) == Choice("ray", "RAY_ADDRESS names a cluster")
    assert named("local", None) == Choice("local", "--executor"), "an option is stronger than the environment"
    with pytest.raises(click.UsageError, match="exclude each other"):
        named("local", "ray://head:10001")


def test_the_size_of_the_work_decides_where_nothing_is_named() -> None:
    assert of_units(MOST_UNITS, MOST_BYTES, 0).name == "local"
    assert of_units(MOST_UNITS + 1, 1, 0).name == of_units(1, MOST_BYTES + 1, 0).name == "ray"
    assert of_samples(MOST_SAMPLES).name == "local" and of_samples(MOST_SAMPLES + 1).name == "ray"


@pytest.mark.parametrize(
    ("there", "wanted", "name"), [(0, 0.5, "ray"), (1, 0.5, "local"), (1, 2, "ray"), (2, 2, "local")]
)
def test_gpus_of_this_machine_need_no_cluster(
    there: int, wanted: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "local_gpus", lambda: there)
    assert of_units(1, 1, wanted).name == name
    assert of_units(MOST_UNITS + 1, 1, wanted).name == "ray"


@pytest.mark.slow
def test_the_first_line_names_the_executor_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "pool", 1, 8, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "", **PLAIN)
    assert _main(["run", str(recipe)]) == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("executor: local (no cluster is named; 1 shards of ")
    assert _main(["run", str(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["executor"] is None, "nothing was left to do"
    again = ["run", str(recipe), "--set", f"output={tmp_path}/other", "--executor", "local", "--json"]
    assert _main(again) == 0
    assert json.loads(capsys.readouterr().out)["executor"] == {"name": "local", "why": "--executor"}
    assert _main(["verify", f"{tmp_path}/out", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["executor"]["name"] == "local"
    assert said.err.startswith("executor: local (no cluster is named; 8 samples fit this machine)")
