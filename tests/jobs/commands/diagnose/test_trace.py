"""`curate diagnose trace`: a planted cause is found, dropped by its edit list, and mistakes are one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from diagnosed import CLASSES, FIELD, PLANTED, TRAINED, find_failures, planted_uids, run, trace_failures
from labelled import write_classifier

from curation.curating.run import curate
from curation.diagnosis.failures import read_failures
from curation.review.queue import open_queue
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_a_planted_cause_is_found_and_its_edit_list_drops_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_failures(home, capsys)
    assert found["judged"] == FIELD and sum(found["parts"].values()) == found["failures"] >= FIELD // 2 - 2
    told = trace_failures(home, capsys)
    assert told["samples"] == TRAINED + PLANTED and told["predicted_loss_change"] < 0
    index = planted_uids(home)
    share = len(index & {row["uid"] for row in told["top"]}) / PLANTED
    assert share >= 0.8, share
    baseline = trace_failures(home, capsys, "--method", "loss")
    worse = len(index & {row["uid"] for row in baseline["top"]}) / PLANTED
    assert worse < share
    told = trace_failures(home, capsys)
    scores = pq.read_table(home / "trace/scores.parquet")
    assert scores.num_rows == TRAINED + PLANTED
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"corpus: {home}/corpus\noutput: {tmp_path}/out\nedits: {home}/trace/drops.parquet\n")
    snapshot = curate(str(recipe))
    assert snapshot.document["samples"]["kept"] == TRAINED  # type: ignore[index]


def test_gradients_are_scored_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_failures(home, capsys)
    trace_failures(home, capsys)
    before = {path: path.stat().st_mtime_ns for path in (home / "scores").rglob("*.parquet")}
    trace_failures(home, capsys, "--method", "cosine", "--part", "validation")
    assert before == {path: path.stat().st_mtime_ns for path in (home / "scores").rglob("*.parquet")}


def test_the_first_samples_become_a_queue_and_a_document(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    found = trace_failures(home, capsys, "--queue", tmp_path / "queue", "--budget", 7)
    queue = open_queue(f"{tmp_path}/queue")
    assert queue.items.column("uid").to_pylist() == [row["uid"] for row in found["top"]]
    assert queue.document.budget == 7 and set(queue.document.classes) == set(CLASSES)
    assert queue.labels == [row["label"] for row in found["top"]] and not any(queue.items.column("reason").to_pylist())
    document = json.loads((home / "trace/trace.json").read_text())
    assert document == found and document["failures"] > 0
    failures = {row["uid"] for row in read_failures(f"{home}/f.parquet").part("query").to_pylist()}
    assert all(row["explains"] and set(row["explains"]) <= failures for row in found["top"])
    again = trace_failures(home, capsys, "--queue", tmp_path / "queue", "--budget", 7)
    assert again == found, "repeated, it finds the queue"


def test_another_question_draws_nothing_and_a_damaged_draw_is_replaced(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_failures(home, capsys)
    first = trace_failures(home, capsys)
    drawn = {path: path.read_bytes() for path in (home / "scores/draws").iterdir()}
    assert drawn
    with monkeypatch.context() as patched:
        patched.setattr("curation.diagnosis.drawn_gradients.draw", None)
        assert trace_failures(home, capsys)["top"] == first["top"]
        assert trace_failures(home, capsys, "--part", "validation")["top"] != first["top"]
    for path, data in drawn.items():
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert trace_failures(home, capsys)["top"] == first["top"]
    assert any(path.read_bytes() == data for path, data in drawn.items()), "drawn again"
    trace_failures(home, capsys, "--seed", "1")
    assert len(list((home / "scores/draws").iterdir())) == len(drawn) + 1


@pytest.mark.ray
def test_ray_spreads_gradients_and_ranks_the_same(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    here = trace_failures(home, capsys)
    words = ["diagnose", "trace", home / "model.safetensors", "--failures", home / "f.parquet", "--count", PLANTED]
    more = ["--data", home / "corpus", "--scores", tmp_path / "scores", "--out", tmp_path / "trace"]
    there = run(capsys, *words, *more, "--executor", "ray")
    assert there["top"] == here["top"] and (tmp_path / "scores").exists()


def test_an_executor_and_a_cluster_exclude_each_other(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    words = [
        "diagnose",
        "trace",
        home / "model.safetensors",
        "--failures",
        home / "f.parquet",
        "--data",
        home / "corpus",
    ]
    more = ["--out", tmp_path / "trace", "--executor", "local", "--address", "127.0.0.1:1"]
    assert _main([*map(str, [*words, *more])]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_mistakes_are_one_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_failures(home, capsys)
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    model, data, field, out = home / "model.safetensors", home / "corpus", home / "field", tmp_path / "t"
    cases = [
        (("trace", other, "--failures", home / "f.parquet", "--data", data, "--out", out), "are of the model"),
        (
            ("trace", model, "--failures", home / "f.parquet", "--data", field, "--out", out),
            "in_training_data",
        ),
        (("trace", model, "--failures", model, "--data", data, "--out", out), "is no file of failures"),
    ]
    for words, message in cases:
        assert _main(["diagnose", *map(str, words), "--label", "name"]) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error
