"""`curate learn`: a small learner, its metrics and its summary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import write_corpus
from click.testing import CliRunner

from curation.recipes.learning_recipe import parse_learn_recipe
from jobs.commands.learn import choose_executor, learn, report

SMALL = ["--steps", "12", "--batch", "8", "--threads", "1", "--device", "cpu", "--holdout", "0.3"]


@pytest.mark.slow
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


SUMMARY = {
    "steps": 40, "seconds": 9.0, "quality": 0.5, "reused": False, "device": "cpu", "device_seconds": {"learner": 8.0},
    "flops": {"parts": {"learning": 2e12, "scoring": 1e12}, "totals": {"full": 3e12}},
    "weights": "out/x.safetensors", "sha256": "0" * 64, "uncounted": [],
    "data": ["pool", "curated@2"], "skipped": {}, "cut": None,
    "against": {
        "run": "out/uniform", "target": 0.4, "updates": 20, "updates_saved": 0.5, "differs": [],
        "compute_saved": {"scoring": 0.3, "online": 0.2, "full": 0.1}, "compute_positive": True,
        "seconds": {"this": 9.0, "compared": 8.0}, "device_seconds": {"this": 8.0, "compared": 7.0},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("uncounted", "against", "expected"),
    [
        ([], {}, "compute_positive: true\nthe whole runs: by the clock 9 s against 8 s, on devices 8 s against 7 s"),
        (["the training of a.safetensors"], {"compute_positive": None}, "unknown (the training of a.safetensors)"),
        ([], {"updates": None, "compute_positive": False}, "never reaches quality 0.400 of out/uniform"),
        ([], {"differs": ["lr", "data"]}, "that run differs from this one in: lr, data"),
        (["the training of a.safetensors"], None, "uncounted  the training of a.safetensors"),
    ],
)
def test_report_says_whether_it_paid(uncounted: list[str], against: dict[str, Any] | None, expected: str) -> None:
    changed = None if against is None else {**SUMMARY["against"], **against}  # type: ignore[dict-item]
    assert expected in report({**SUMMARY, "uncounted": uncounted, "against": changed}, "proxy-mu")


def test_report_says_what_was_skipped_and_what_was_cut() -> None:
    flaws = {**SUMMARY, "skipped": {"tar_bad_header": 37}, "cut": {"wanted": 800, "pool": 286}}
    text = report(flaws, "proxy-mu")
    assert "skipped  37: tar_bad_header" in text and "verify" not in text  # they may be the corpus' own
    assert "`curate verify curated@2`" in report({**flaws, "data": ["curated@2"]}, "proxy-mu")
    assert "a super-batch of 800 exceeds the pool: all 286 samples were candidates" in text


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, jobs.commands.learn, jobs.commands.proxy;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'numpy', 'pyarrow', 'curation.storage.store')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("compute", "executor", "address", "cluster", "chosen"),
    [
        (False, "auto", None, "", "local (the recipe has no section `compute`)"),
        (False, "auto", None, "auto", "local (the recipe has no section `compute`)"),
        (False, "auto", "ray://x", "", "ray (--address names a cluster)"),
        (False, "ray", None, "", "ray (--executor)"),
        (True, "auto", None, "", "ray (the recipe has a section `compute`)"),
        (True, "auto", None, "auto", "ray (RAY_ADDRESS names a cluster)"),
        (True, "local", None, "", "local (--executor)"),
    ],
)
def test_a_recipe_trains_here_unless_it_or_an_option_asks_for_ray(
    compute: bool, executor: str, address: str | None, cluster: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    text = "data: x\noutput: y\nlearner: {contrastive: {}}\n" + ("compute: {learners: 1}\n" if compute else "")
    assert str(choose_executor(parse_learn_recipe(text), executor, address)) == f"executor: {chosen}"


def test_a_snapshot_trains_in_one_process() -> None:
    for options in (["--executor", "ray"], ["--address", "ray://x"]):
        result = CliRunner().invoke(learn, ["snapshot", "--out", "x", *options])
        assert result.exit_code == 2 and "for recipes" in result.output
