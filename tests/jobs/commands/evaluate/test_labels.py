"""`curate evaluate --labels before,after`: the report, its JSON, snapshots beside files, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from edits_given import edits, replaced
from evaluating import SMALL, count_runs
from labelled import CLASSES, uids_of, write_classifier, write_labelled, write_probabilities

from curation.ledger.edit_lists import write_edit_list
from jobs.cli import cli

TRUE = CLASSES * 20
STORED = ["dog" if row < 12 else label for row, label in enumerate(TRUE)]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    uids = uids_of(write_labelled(tmp_path / "test", STORED, {59: "synthetic"}))
    uids.append("f" * 32)
    rows = [replaced(uid, "name", json.dumps(label)) for uid, label in zip(uids, [*TRUE, "cat"], strict=True)]
    rows[12] = (uids[12], "replace", "name", '"owl"', '"dog"')
    write_edit_list(f"{tmp_path}/edits.parquet", edits(*rows))
    write_probabilities(tmp_path / "fitted.parquet", uids[:60], STORED, CLASSES)
    write_probabilities(tmp_path / "good.parquet", uids[:60], TRUE, CLASSES)
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["evaluate", *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.slow
def test_the_report_says_which_models_change_places(labelled: Path) -> None:
    models = [f"{labelled}/{name}.parquet" for name in ("fitted", "good")]
    words = [*models, "--against", f"{labelled}/test", "--labels", "before,after", "--edits"]
    text = run(*words, f"{labelled}/edits.parquet")
    assert "59 samples, 3 classes, 1 skipped: origin_synthetic" in text
    assert "left out of the samples to evaluate on, by origin: synthetic 1" in text
    assert "8 labels replaced by" in text and "labels as stored" in text
    assert "stale_edit: 1 edits are not applied" in text and "'cat', expected 'dog'" in text
    assert "unknown_uid: 2 edits are of samples that are not judged here\n" in text
    assert "before to after: Kendall's tau -1.000; pairs that change places: 1" in text
    assert f"{models[0]} before {models[1]}: before +0.136 (" in text and "McNemar's exact test" in text
    done = CliRunner().invoke(
        cli, ["evaluate", *words, f"{labelled}/edits.parquet", "--json", "--origins", "synthetic,real"]
    )
    found = json.loads(done.stdout)
    assert found["held_out"]["samples"] == 60 and found["held_out"]["origins"] == ["real", "synthetic"]


@pytest.mark.slow
def test_snapshots_stand_for_their_models(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot's models are trained once, then judged beside a file."""
    write_classifier(home / "c.safetensors", ["thing-0", "thing-1", "thing-2"])
    trained = count_runs(monkeypatch)
    words = [f"{home}/out@1", f"{home}/c.safetensors", *SMALL, "--no-raw", "--no-random", "--against", f"{home}/test"]
    for _ in range(2):
        found = json.loads(CliRunner().invoke(cli, ["evaluate", *words, "--labels", "before", "--json"]).stdout)
        assert [about["kind"] for about in found["models"].values()] == ["classifier", "clip", "clip"]
        assert len(trained) == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--edits", "e"], "--edits requires --labels"),
        (["--label", "pack"], "--label requires --labels"),
        (["--labels", "before", "--steps", "3"], "--steps is for snapshots"),
        (["--labels", "before,after"], "after names no labels"),
        (["--labels", "before", "--origins", "painted"], "unknown origin 'painted'"),
    ],
)
def test_mistakes_are_one_line(labelled: Path, words: list[str], part: str) -> None:
    done = CliRunner().invoke(cli, ["evaluate", f"{labelled}/good.parquet", "--against", f"{labelled}/test", *words])
    assert done.exit_code != 0 and part in done.output + str(done.exception)
