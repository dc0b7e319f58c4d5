"""`curate learn`: a small learner, its metrics and its summary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from builders import write_corpus
from click.testing import CliRunner

from jobs.learn import learn

SMALL = ["--steps", "12", "--batch", "8", "--threads", "1", "--device", "cpu", "--holdout", "0.3"]


def test_learn(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", shards=2, n=30, flaws=False)
    test = write_corpus(tmp_path / "test", shards=3, n=30, flaws=False)
    arguments = [str(corpus), "--out", str(tmp_path / "out"), "--eval", str(test), *SMALL, "--json"]
    result = CliRunner().invoke(learn, arguments, catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert summary["steps"] == 12 and summary["samples"]["held_out"] > summary["samples"]["train"] / 3
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 10, 12, 12]
    assert lines[0].keys() == {"step", "loss", "lr", "gradient_norm", "samples_per_second"}
    plain = CliRunner().invoke(learn, arguments[:-1], catch_exceptions=False)
    assert "nothing done" in plain.stdout and "metrics" in plain.stdout


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, jobs.learn, jobs.proxy;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'numpy', 'pyarrow', 'curation.store')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
