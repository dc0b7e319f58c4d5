"""`curate review report`: text, JSON and the page; simulated annotators in each line with a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from review_queues import answer, empty_queue, make_queue
from running import command

from curation.review.documents import answer_key
from curation.review.queue import Queue
from jobs.cli import _main

WORDS = "simulated annotators"

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Two of three labels are wrong; three simulated annotators of four are right."""
    found = make_queue(tmp_path, 12, budget=40)
    uids = found.items.column("uid").to_pylist()
    truth = ["cat"] * 12
    pq.write_table(pa.table({"uid": uids, "label": truth}), tmp_path / "truth.parquet")
    pq.write_table(pa.table({"uid": uids, "votes": [[6, 1, 1]] * 12}), tmp_path / "votes.parquet")
    return found


def simulate(root: Path) -> None:
    command("review", "annotate", str(root / "queue"), "--distribution", str(root / "votes.parquet"), "--seed", "5")


def report(root: Path, *more: str) -> str:
    return command("review", "report", str(root / "queue"), *more)


def test_every_line_names_simulated_annotators(queue: Queue, tmp_path: Path) -> None:
    simulate(tmp_path)
    for more in ((), ("--truth", str(tmp_path / "truth.parquet"))):
        lines = report(tmp_path, *more).splitlines()
        assert len(lines) > 10 and all(line.startswith(f"{WORDS}: ") for line in lines)
    status = command("review", "status", str(tmp_path / "queue")).splitlines()
    assert len(status) > 5 and all(line.startswith(f"{WORDS}: ") for line in status)
    assert json.loads(command("review", "status", str(tmp_path / "queue"), "--json"))["annotators"] == WORDS


def test_every_object_of_the_json_names_simulated_annotators(queue: Queue, tmp_path: Path) -> None:
    simulate(tmp_path)
    found = json.loads(report(tmp_path, "--truth", str(tmp_path / "truth.parquet"), "--json"))
    objects = [found, *(one for value in found.values() for one in (value if isinstance(value, list) else [value]))]
    figures = [one for one in objects if isinstance(one, dict)]
    assert len(figures) > 12 and all(one["annotators"] == WORDS for one in figures)
    assert found["cost"]["by_annotator"] == {"simulated": found["cost"]["answers"]}


def test_findings_name_them_too(queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path)
    queue.store.put(answer_key(3, "eve", 1), b"\x00")
    capsys.readouterr()
    assert _main(["review", "report", str(tmp_path / "queue")]) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if "bad_answer" in line)
    assert line.strip().startswith(f"{WORDS}: ") and f"curate review verify {tmp_path / 'queue'}" in line


def test_people_need_no_words(queue: Queue, tmp_path: Path) -> None:
    answer(queue, 0, "ann", "cat")
    for reviewer in ("ann", "bob"):
        answer(queue, 1, reviewer, "cat")
    text = report(tmp_path, "--truth", str(tmp_path / "truth.parquet"))
    assert WORDS not in text
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert {
        "items 12 by doubt",
        "changed 1 labels",
        "confirmed 1 labels",
        "fixed 1 labels were wrong, and are right now",
        "made worse 0 labels were right, and are wrong now",
        "left 7 labels were wrong, and are wrong still",
        "correct 5 of 12 labels whose truth is known; 4 before",
        "answers 3 of 40 (3 of reviewers)",
        "cost 3.00 answers a corrected label (fixed, less those made worse)",
        "agreement - not defined: all these labels name one class",
        "change dog -> cat: 1",
        "reviewer ann: 2 labels, 0 can't tell, 2 of 2 as decided, 2 of 2 correct",
    } <= lines


def test_votes_are_truth(queue: Queue, tmp_path: Path) -> None:
    by_votes, by_label = (
        json.loads(report(tmp_path, "--truth", str(tmp_path / name), "--json"))
        for name in ("votes.parquet", "truth.parquet")
    )
    assert by_votes["truth"] == by_label["truth"] and by_votes["truth"]["correct_before"] == 4


def test_an_empty_queue(tmp_path: Path) -> None:
    empty_queue(tmp_path)
    out = tmp_path / "report.html"
    text = command("review", "report", str(tmp_path / "empty"), "--html", str(out))
    assert "items               0" in text and "not defined: no item has labels of two reviewers" in text
    assert "No label changes yet" in out.read_text()


def test_long_lists_are_cut(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 12)
    for n in range(30):
        answer(queue, n % 12, f"r{n}", "cat")
    assert "reviewer   and 10 more: --json lists them" in report(tmp_path)
    assert len(json.loads(report(tmp_path, "--json"))["reviewers"]) == 30


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--truth", "none.parquet"), "does not exist"),
        (("--html", "none/report.html"), "the folder none does not exist"),
    ],
)
def test_mistakes(words: Any, text: str, queue: Queue, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["review", "report", str(tmp_path / "queue"), *words]) == 2
    assert text in capsys.readouterr().err
