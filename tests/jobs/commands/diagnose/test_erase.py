"""`curate diagnose erase`: the failures of a traced cause go, both classes stay, and training again confirms it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diagnosed import CLASSES, PLANTED, TRAINED, find_failures, planted_uids, run, trace_failures
from labelled import uids_of, write_classifier

from curation.curating.run import curate
from curation.ledger.edit_lists import EDIT_SCHEMA, read_edit_list, write_edit_list
from curation.models.weights import read_metadata
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
LEARN = "{data: d, output: o, holdout: 0.1, learner: {classification: {steps: 90, batch: 32, lr: 1.0e-3}}}"


def words(home: Path, out: Path, drops: Path, model: Path | None = None, data: str = "corpus") -> list[object]:
    given = [model or home / "model.safetensors", "--failures", home / "f.parquet", "--data", home / data]
    return ["diagnose", "erase", *given, "--drops", drops, "--out", out, "--scores", home / "scores", "--lr", "0.001"]


def drop_list(path: Path, uids: list[str], verb: str = "drop") -> Path:
    table = pa.Table.from_pylist([{"uid": uid, "verb": verb} for uid in uids], schema=EDIT_SCHEMA)
    write_edit_list(str(path), table)
    return path


def test_traced_samples_are_erased_and_retraining_agrees(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    trace_failures(home, capsys)
    recipe = tmp_path / "learn.yaml"
    recipe.write_text(LEARN)
    out = tmp_path / "out"
    given = [*words(home, out, home / "trace/drops.parquet"), "--keep", "0.8", "--retrain", recipe]
    card = run(capsys, *given)
    after = card["strategies"]["erase"]["after"]
    assert after["failures"]["held_out"]["rate"] >= 0.8
    assert min(one["rate"] for one in after["right"]["held_out"]["by_class"].values()) >= 0.8
    again = card["retrained"]
    assert again["after"]["failures"]["held_out"]["rate"] >= 0.8 and again["agreement"] >= 0.6
    assert again["cost"]["flops"] > 0 and again["fixed"] >= 0.6
    assert sum(card["causes"]["by_class"].values()) == PLANTED
    metadata = read_metadata(out / "weights.safetensors")
    assert metadata["parent_sha256"] == card["parent"]["sha256"] and json.loads(metadata["classes"]) == CLASSES
    assert read_edit_list(str(out / "drops.parquet")).sha256 == card["causes"]["sha256"]
    snapshot = curate(str(out / "retrain/data.yaml"))  # what the printed command runs: nothing is left to do
    assert snapshot.document["samples"]["kept"] == TRAINED  # type: ignore[index]
    assert run(capsys, *given) == card
    page = tmp_path / "report.html"
    words_of_report = ["diagnose", "report", out, "--failures", home / "f.parquet", "--out", page]
    assert _main([str(word) for word in words_of_report]) == 0, capsys.readouterr().err
    assert "training again without the samples" in page.read_text()


def test_a_snapshots_samples_are_dropped_by_the_uids_of_its_shards(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(f"corpus: {home}/corpus\noutput: {tmp_path}/curated\n")
    curate(str(tmp_path / "r.yaml"))
    find_failures(home, capsys)
    drops = drop_list(tmp_path / "d.parquet", sorted(planted_uids(home)))
    given: list[Any] = [*words(home, tmp_path / "out", drops), "--keep", "0.8"]
    given[given.index(home / "corpus")] = tmp_path / "curated"
    card = run(capsys, *given)
    assert sum(card["causes"]["by_class"].values()) == PLANTED
    snapshot = curate(str(tmp_path / "out/retrain/data.yaml"))
    assert snapshot.document["samples"]["kept"] == TRAINED  # type: ignore[index]


def test_mistakes_are_one_line_and_write_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    planted, out = sorted(planted_uids(home)), tmp_path / "out"
    some = drop_list(tmp_path / "some", planted)
    cases = [
        (words(home, out, some, other), "are of the model"),
        (words(home, out, drop_list(tmp_path / "keep", planted, "keep")), "drops no sample"),
        (words(home, out, drop_list(tmp_path / "foreign", ["f" * 32])), "none of the 1 samples"),
        (words(home, out, drop_list(tmp_path / "all", uids_of(home / "corpus"))), "more than half"),
        (words(home, out, home / "f.parquet"), "columns are not those of an edit list"),
        ([*words(home, out, some), "--keep", "1", "--steps", 1, "--strength", "1e9"], "no validation failure"),
    ]
    for given, message in cases:
        assert _main([str(word) for word in given]) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error
    assert not (out / "weights.safetensors").exists() and not (out / "card.json").exists()


def test_drops_that_the_data_do_not_have_are_counted(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    drops = drop_list(tmp_path / "d", [*sorted(planted_uids(home)), "f" * 32])
    card = run(capsys, *words(home, tmp_path / "out", drops), "--keep", "0.8")
    assert card["causes"]["left_out"] == {"not_in_data": 1}
    assert pq.read_table(tmp_path / "out/drops.parquet").num_rows == PLANTED + 1
