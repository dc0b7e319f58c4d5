"""The page on reviews: every command that can run here, in order, with the answers that the page asks for."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.ledger.edit_lists import read_edit_list
from curation.review.findings import REASONS
from curation.review.queue import open_queue
from jobs.cli import _main

PAGE = (Path(__file__).parents[2] / "docs/review.md").read_text()
BLOCKS = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
RECIPE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]

pytestmark = [pytest.mark.usefixtures("inline")]


@pytest.mark.slow
def test_the_commands_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "review.yaml").write_text(RECIPE)
    build, exchange, annotate, apply, report = BLOCKS

    def run(block: str) -> str:
        for line in block.strip().splitlines():
            name, *words = shlex.split(line)
            assert name == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"
        return capsys.readouterr().out

    run(build)
    queue = open_queue(str(tmp_path / "queue"))
    assert queue.items.num_rows == 40 and set(queue.labels) <= set(queue.document.classes)
    assert "would record 0 answers" in run(exchange), "nobody has filled the file in"
    rows = list(csv.reader((tmp_path / "items.csv").open(newline="")))
    assert len(rows) == 21 and (tmp_path / "tasks.json.xml").exists()
    classes = queue.document.classes
    numbers = [[float(name == classes[n % len(classes)]) for name in classes] for n in range(40)]
    pq.write_table(pa.table({"uid": queue.items.column("uid"), "votes": numbers}), tmp_path / "votes.parquet")
    lines = run(annotate).splitlines()
    assert len(lines) >= 6 and all(line.startswith("simulated annotators: ") for line in lines)
    run(apply)
    edits = read_edit_list(str(tmp_path / "edits.parquet")).table
    assert edits.num_rows > 5 and set(edits.column("field").to_pylist()) == {"pack"}
    text, _, found = run(report).partition("{")
    assert all(line.startswith("simulated annotators: ") for line in text.splitlines())
    truth = json.loads("{" + found)["truth"]
    assert truth["fixed"] == edits.num_rows and truth["worse"] == 0, "annotators with one-hot votes are right"
    assert (tmp_path / "report.html").read_text().count("data:image/") == 10


def test_the_page_lists_the_reasons() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE.split("| reason | cause |")[1].split("\n\n")[0]))
    assert {reason for reason in REASONS if not reason.startswith("image")} <= named
