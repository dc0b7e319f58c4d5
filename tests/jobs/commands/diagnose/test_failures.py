"""`curate diagnose failures`: failures among labels and given answers, and mistakes are one line each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diagnosed import find_failures
from labelled import uids_of

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
