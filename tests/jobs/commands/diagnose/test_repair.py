"""`curate diagnose repair`: held-out failures become right, a killed command goes on, mistakes are one line each."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from diagnosed import CLASSES, FIELD, find_failures, run
from labelled import write_classifier

from curation.diagnosis.failures import Failures, read_failures
from curation.models.weights import read_metadata
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def words(home: Path, out: Path, model: Path | None = None, data: str = "corpus") -> list[object]:
    given = [model or home / "model.safetensors", "--failures", home / "f.parquet", "--data", home / data]
    return ["diagnose", "repair", *given, "--out", out, "--scores", home / "scores", "--steps", 60, "--lr", "0.001"]


def test_a_repair_is_measured_and_usable_as_a_model(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    card = run(capsys, *words(home, tmp_path / "out"), "--keep", "0.8")
    assert set(card["strategies"]) == {"failures", "mixed", "ewc"} and card["chosen"] in card["strategies"]
    after = card["strategies"][card["chosen"]]["after"]
    assert after["failures"]["held_out"]["rate"] >= 0.6 and after["right"]["held_out"]["rate"] >= 0.8
    assert card["before"]["failures"]["held_out"]["rate"] == 0 and card["before"]["right"]["held_out"]["rate"] == 1
    metadata = read_metadata(tmp_path / "out/weights.safetensors")
    assert metadata["parent_sha256"] == card["parent"]["sha256"] and json.loads(metadata["classes"]) == CLASSES
    given = ["--data", home / "field", "--out", tmp_path / "g.parquet"]
    assert _main([*map(str, ["diagnose", "failures", tmp_path / "out", *given])]) in (0, 2)
    told = capsys.readouterr()
    assert re.search(
        rf"has no such failure: {FIELD} samples|^\d{{1,2}} failures of {FIELD} samples", told.out + told.err
    )


def test_a_killed_command_goes_on_from_the_strategies_that_finished(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation.diagnosis import repairing

    find_failures(home, capsys)
    real, made = repairing.repair, list[str]()

    def until_ewc(*given: Any) -> Any:
        made.append(given[3])
        if made == ["failures", "mixed", "ewc"]:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(repairing, "repair", until_ewc)
    arguments = [*map(str, words(home, tmp_path / "out")), "--keep", "0.8"]
    assert _main(arguments) == 130 and not (tmp_path / "out/card.json").exists()
    capsys.readouterr()
    card = run(capsys, *words(home, tmp_path / "out"), "--keep", "0.8")
    assert made == ["failures", "mixed", "ewc", "ewc"]
    assert run(capsys, *words(home, tmp_path / "out"), "--keep", "0.8") == card
    assert made == ["failures", "mixed", "ewc", "ewc"]


def test_failures_that_are_right_by_now_are_counted_and_left_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A verdict that was corrected since then: the expected answer is what the model says."""
    find_failures(home, capsys)
    given = read_failures(str(home / "f.parquet"))
    rows = given.table.to_pylist()
    own = [row["uid"] for row in rows if row["part"] == "query"][:2]
    rows = [{**row, "expected": row["guess"]} if row["uid"] in own else row for row in rows]
    changed = Failures(pa.Table.from_pylist(rows, schema=given.table.schema), given.about)
    (tmp_path / "f.parquet").write_bytes(changed.to_bytes())
    arguments = words(home, tmp_path / "out")
    arguments[arguments.index(home / "f.parquet")] = tmp_path / "f.parquet"
    card = run(capsys, *arguments, "--keep", "0.8", "--strategy", "mixed")
    assert card["left_out"] == {"right": 2} and set(card["strategies"]) == {"mixed"}
    assert card["samples"]["failures"]["query"] == given.part("query").num_rows - 2


def test_mistakes_are_one_line_and_write_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    folder, sha = tmp_path / "learned", sha256((home / "model.safetensors").read_bytes()).hexdigest()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((home / "model.safetensors").read_bytes())
    summary = {"sha256": sha, "key": "model.safetensors", "data": [f"{home}/field"]}
    (folder / "summary.json").write_text(json.dumps(summary))
    out = tmp_path / "out"
    cases = [
        (words(home, out, other), "are of the model"),
        (words(home, out, data="field"), "in_training_data"),
        (words(home, out, folder), "was trained on"),
        ([*words(home, out), "--keep", "1", "--steps", 1, "--lr", "1e-9"], "no strategy makes"),
    ]
    for given, message in cases:
        assert _main([str(word) for word in given]) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error
    assert not (out / "weights.safetensors").exists() and not (out / "card.json").exists()
