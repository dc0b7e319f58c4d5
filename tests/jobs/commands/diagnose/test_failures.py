"""`curate diagnose failures`: failures among labels and given answers, and mistakes are one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diagnosed import CLASSES, FIELD, PLANTED, TRAINED, find_failures, run
from edits_given import edits, replaced
from labelled import uids_of, write_classifier

from curation.diagnosis.failures import read_failures
from curation.ledger.edit_lists import write_edit_list
from curation.review.queue import open_queue
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_expected_answers_of_given_samples(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = uids_of(home / "field")
    table = pa.table({"uid": [*uids[:4], "f" * 32], "expected": ["blue", "blue", "green", "red", "red"]})
    pq.write_table(table, tmp_path / "seen.parquet")
    found = find_failures(home, capsys, "--expected", tmp_path / "seen.parquet")
    assert found["judged"] == 4 and found["refused"]["not_in_data"] == 1 and found["refused"]["unknown_class"] == 1
    (tmp_path / "seen.csv").write_text(f"uid,expected\n{uids[0]},blue\n{uids[0]},red\n")
    words = ["diagnose", "failures", home / "model.safetensors", "--data", home / "field", "--out", home / "g.parquet"]
    assert _main([*map(str, words), "--expected", str(tmp_path / "seen.csv")]) == 2
    assert "names a uid twice" in capsys.readouterr().err


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line with which a command ends."""
    assert _main(["diagnose", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def evaluation(home: Path, folder: Path, capsys: pytest.CaptureFixture[str], *models: Path) -> Path:
    """Evaluate models under corrected labels: the first field picture is another one than its label says."""
    uids = uids_of(home / "field")
    write_edit_list(
        f"{folder}/edits.parquet", edits(replaced(uids[0], "name", '"red"'), (uids[1], "drop", *[None] * 5))
    )
    given = ["--against", f"{home}/field", "--labels", "before,after", "--edits", f"{folder}/edits.parquet", "--json"]
    assert _main(["evaluate", *map(str, models), *given]) == 0
    path = folder / "evaluation.json"
    path.write_text(capsys.readouterr().out)
    return path


def test_wrong_answers_of_an_evaluation_by_its_corrected_labels(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = find_failures(home, capsys)
    path = evaluation(home, tmp_path, capsys, home / "model.safetensors")
    found = run(capsys, "diagnose", "failures", path, "--out", tmp_path / "f.parquet")
    assert found["judged"] == FIELD - 1 and abs(found["failures"] - stored["failures"]) <= 2
    rows = read_failures(f"{tmp_path}/f.parquet")
    table = {row["uid"]: row for row in rows.table.to_pylist()}
    first, second = uids_of(home / "field")[:2]
    assert second not in table, "a sample that the edits drop is not judged"
    assert table.get(first, {"expected": "red"})["expected"] == "red"
    assert rows.about["data"].endswith(f"{home}/field") and rows.about["label"] == "name"
    named = run(capsys, "diagnose", "failures", path, "--where", "guess=red", "--out", tmp_path / "g.parquet")
    assert named["failures"] <= found["failures"]


def test_an_evaluation_of_several_models_and_of_changed_weights(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    path, out = evaluation(home, tmp_path, capsys, home / "model.safetensors", other), tmp_path / "f.parquet"
    error = fail(capsys, "failures", path, "--out", out)
    assert "judges 2 models" in error and "name one with --model" in error
    name = next(name for name in json.loads(path.read_text())["models"] if "other" in name)
    assert run(capsys, "diagnose", "failures", path, "--model", name, "--out", out)["judged"] == FIELD - 1
    assert "judges no model x" in fail(capsys, "failures", path, "--model", "x", "--out", out)
    write_classifier(other, CLASSES, seed=1)
    assert "was judged" in fail(capsys, "failures", path, "--model", name, "--out", out)
    (tmp_path / "e.json").write_text('{"models": []}')
    assert "is no evaluation of models" in fail(capsys, "failures", tmp_path / "e.json", "--out", out)


def test_verdicts_of_a_review_queue(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, queue = tmp_path / "r.yaml", tmp_path / "queue"
    recipe.write_text(f"corpus: {home}/field\noutput: {tmp_path}/out\nscorers: [caption_stats: {{}}]\n")
    run(capsys, "run", recipe)
    run(
        capsys,
        "review",
        "build",
        recipe,
        "--by",
        "caption_stats.words",
        "--budget",
        9,
        "--classes",
        "blue,red",
        "--out",
        queue,
    )
    words = [
        "failures",
        home / "model.safetensors",
        "--data",
        home / "field",
        "--queue",
        queue,
        "--out",
        tmp_path / "f",
    ]
    assert "has no answered item" in fail(capsys, *words)
    item = open_queue(str(queue))
    for number in range(3):
        item.record(item.answer("label", number, "ann", 1, "blue"))
    asked = {item.row(number)["uid"] for number in range(3)}
    found = run(capsys, "diagnose", *words[:-1], tmp_path / "f")
    assert found["judged"] == 3
    assert {row["uid"] for row in read_failures(f"{tmp_path}/f").table.to_pylist()} <= asked


def test_the_held_out_part_of_a_run(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run names its data and what it held out; weights alone name no data."""
    recipe = tmp_path / "learn.yaml"
    recipe.write_text(
        f"data: {home}/corpus\noutput: {tmp_path}/run\nholdout: 0.4\nevaluate_every: 2\ndevice: cpu\n"
        "learner: {classification: {model: proxy-mu, steps: 2, batch: 8, label: name}}\n"
    )
    summary = run(capsys, "learn", recipe)
    found = run(capsys, "diagnose", "failures", tmp_path / "run", "--out", tmp_path / "f.parquet")
    assert 20 < found["judged"] == summary["samples"]["held_out"] < TRAINED
    assert "does not name the data" in fail(capsys, "failures", home / "model.safetensors", "--out", tmp_path / "g")
    whole = run(
        capsys, "diagnose", "failures", tmp_path / "run", "--data", home / "corpus", "--out", tmp_path / "h.parquet"
    )
    assert whole["judged"] == TRAINED + PLANTED


@pytest.mark.parametrize(
    ("where", "message"), [("guess=green", "has no such failure"), ("size=3", "is not expected=CLASS")]
)
def test_mistakes_are_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, message: str
) -> None:
    words = [
        "failures",
        home / "model.safetensors",
        "--data",
        home / "corpus",
        "--where",
        where,
        "--out",
        tmp_path / "t",
    ]
    assert _main(["diagnose", *map(str, words), "--label", "name"]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error, error
