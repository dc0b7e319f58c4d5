"""`curate diagnose types`: groups are measured and merged, a killed command goes on, and mistakes are one line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from diagnosed import CLASSES, find_failures, run
from labelled import uids_of, write_classifier

from curation.diagnosis import type_tuning
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def find_types(home: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: object) -> Any:
    words = ["diagnose", "types", home / "model.safetensors", "--failures", home / "f.parquet", "--out", out]
    return run(capsys, *words, "--data", home / "corpus", "--scores", home / "scores", "--steps", 20, *more)


def test_types_are_measured_and_every_failure_has_one(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = find_failures(home, capsys)
    found = find_types(home, tmp_path, capsys)
    assert json.loads((tmp_path / "types.json").read_text()) == json.loads(json.dumps(found))
    (side,) = found["sides"]
    assert (side["expected"], side["guess"], side["failures"]) == ("blue", "red", failures["failures"])
    assert side["types"] and side["learnability"] >= 0.9, "one cause: tuning on any group repairs its held-out failures"
    merged = sum(len(name.split("+")) for name in side["types"])
    assert merged == len(side["first"]) == len(side["types"]) + len(side["merges"])
    assert sum(side["first"].values()) == failures["failures"]
    table = pq.read_table(tmp_path / "types.parquet")
    assert set(table.column("type").to_pylist()) == set(side["types"]) and None not in table.column("phash").to_pylist()
    assert all(one["name"].startswith("blue as red") and one["validated"] for one in found["types"])
    assert find_types(home, tmp_path / "again", capsys)["sides"] == found["sides"]


def test_a_killed_command_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    whole = find_types(home, tmp_path / "whole", capsys)
    tuned, calls = type_tuning.tune, list[int]()

    def dies(*arguments: Any, **options: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tuned(*arguments, **options)

    monkeypatch.setattr(type_tuning, "tune", dies)
    words = ["diagnose", "types", home / "model.safetensors", "--failures", home / "f.parquet", "--data",
             home / "corpus", "--scores", home / "scores", "--steps", 20, "--out", tmp_path / "out"]  # fmt: skip
    assert _main([*map(str, words)]) == 130
    assert not (tmp_path / "out/types.json").exists() and len(list((tmp_path / "out/rows").glob("*.json"))) == 1
    capsys.readouterr()
    found = find_types(home, tmp_path / "out", capsys)
    assert found["sides"] == whole["sides"] and len(calls) == 1 + len(whole["rows"])
    find_types(home, tmp_path / "out", capsys)
    assert len(calls) == 1 + len(whole["rows"]), "nothing is tuned twice"
    find_types(home, tmp_path / "out", capsys, "--seed", 1)
    assert len(calls) > 1 + len(whole["rows"]), "another seed is another measurement"


def test_too_few_failures_are_no_types(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = uids_of(home / "field")[:40]
    (tmp_path / "few.csv").write_text("uid,expected\n" + "".join(f"{uid},blue\n" for uid in some))
    shutil.copytree(home / "field", tmp_path / "field")
    find_failures(home, capsys, "--expected", tmp_path / "few.csv")
    found = find_types(home, tmp_path / "out", capsys)
    assert found["sides"][0]["not_shown"] == [f"too few: {found['sides'][0]['failures']} failures, 25 are needed"]
    assert found["types"] == [] and not list((tmp_path / "out").glob("rows/*"))
    assert pq.read_table(tmp_path / "out/types.parquet").column("type").null_count == found["sides"][0]["failures"]


def test_types_across_sides_say_that_they_prove_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    (side,) = find_types(home, tmp_path, capsys, "--across")["sides"]
    assert any("proves nothing" in text for text in side["not_shown"])


def test_mistakes_are_one_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_failures(home, capsys)
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    model, corpus, field = home / "model.safetensors", home / "corpus", home / "field"
    cases = [((other, corpus), "are of the model"), ((model, field), "no failure is left to group")]
    for (which, data), message in cases:
        words = ["diagnose", "types", which, "--failures", home / "f.parquet", "--data", data, "--out", tmp_path / "t"]
        assert _main([*map(str, words)]) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error
