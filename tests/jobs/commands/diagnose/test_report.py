"""`curate diagnose report`: one page of what was found, with pictures, and a line for each claim that was not shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from diagnosed import find_failures, run, trace_failures

from curation.diagnosis.failures import read_failures
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
RATE = {"rate": 0.5, "low": 0.25, "high": 0.75, "total": 8, "chance": 0.5}
SHARES = {**RATE, "by_class": {"red <b>": RATE, "blue": RATE}}
AFTER = {"failures": {"held_out": SHARES}, "right": {"held_out": SHARES}}
TUNED = {"after": AFTER, "flops": 3e9, "seconds": 1.5}


def types_of(sha256: str) -> dict[str, Any]:
    side = {"expected": "blue", "guess": "<i>red", "failures": 40, "types": ["0", "1"],
            "matrix": [[0.9, 0.1], [None, 0.8]], "learnability": 0.85, "independence": 0.7,
            "merges": [{"one": "1", "other": "2", "independence": 0.01}],
            "not_shown": []}  # fmt: skip
    few = {
        "expected": "red",
        "guess": "blue",
        "failures": 3,
        "types": [],
        "not_shown": ["too few: 3 failures, 25 are needed"],
    }
    types = [{"type": name, "name": f"white {name}", "members": 10, "held_out": 4} for name in "01"]
    return {"version": 1, "sha256": sha256, "sides": [side, few], "types": types}


def card_of(kind: str, sha256: str, **more: Any) -> dict[str, Any]:
    return {"version": 1, "kind": kind, "parent": {"sha256": sha256}, "before": AFTER, "chosen": kind,
            "strategies": {kind: TUNED}, **more}  # fmt: skip


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / name).write_text(json.dumps(document))
    return folder


def test_the_page_shows_everything_and_what_is_missing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    trace_failures(home, capsys)
    words = "diagnose", "report", home / "trace", "--failures", home / "f.parquet", "--out", tmp_path / "one.html"
    first = run(capsys, *words)
    assert first["documents"] == ["trace"] and len(first["not_shown"]) == 4
    page = (tmp_path / "one.html").read_text()
    assert page.count("data:image/png") >= 2 and "no types were looked for" in page and "<script" not in page
    shown = json.loads((home / "trace/trace.json").read_text())["top"]
    assert all(sample["uid"][:12] in page for sample in shown)

    given = read_failures(f"{home}/f.parquet")
    sha, uids = given.about["sha256"], given.table.column("uid").to_pylist()
    folder = write(tmp_path / "types", "types.json", types_of(sha))
    pq.write_table(
        pa.table({"uid": uids, "type": ["0", "1", None, *["1"] * (len(uids) - 3)]}), folder / "types.parquet"
    )
    repaired = write(tmp_path / "repaired", "card.json", card_of("repair", sha))
    erased = write(tmp_path / "erased", "card.json", card_of("erase", sha, retrained=TUNED))
    words = "diagnose", "report", home / "trace", folder, repaired, erased, "--failures", home / "f.parquet"
    found = run(capsys, *words, "--out", tmp_path / "all.html")
    assert found["documents"] == ["erase", "repair", "trace", "types"]
    assert found["not_shown"] == ["red as blue: too few: 3 failures, 25 are needed."]
    page = (tmp_path / "all.html").read_text()
    assert "&lt;i&gt;red" in page and "<i>red" not in page and "red &lt;b&gt;" in page
    assert ">0.90</td>" in page and ">–</td>" in page and "white 0" in page and "were merged" in page
    assert "trained again without the samples" in page and page.count("3.0</td>") == 3
    assert "Failure " + uids[0][:12] in page and len(page) < 4_000_000
    assert not re.search(r"https?://", page.replace("http://www.w3.org", ""))
    assert _main([*map(str, words), "--out", str(tmp_path / "text.html")]) == 0
    assert "not shown: red as blue" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "document", "message"),
    [
        ("none.json", {}, "holds none of trace.json, types.json, card.json"),
        ("card.json", {"version": 1, "kind": "repair", "parent": {"sha256": "ab"}}, "is of the model ab"),
        ("card.json", {"version": 1, "kind": "other"}, "is no document of a diagnosis"),
        ("types.json", {"version": 7}, "is no document of a diagnosis"),
        ("trace.json", {"version": 1, "kind": "trace"}, "is of the model None"),
    ],
)
def test_other_folders_are_one_line(
    name: str, document: dict[str, Any], message: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_failures(home, capsys)
    folder = write(tmp_path / "folder", name, document)
    words = ["diagnose", "report", folder, "--failures", home / "f.parquet", "--out", tmp_path / "x.html"]
    assert _main([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "x.html").exists()
