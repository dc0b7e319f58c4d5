"""Helpers of the tests of `curate evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curation.evaluation import trials
from jobs.commands.evaluate import evaluate

ARM = {"samples": 1, "runs": [], "mean": {}}

EMPTY_ARM = json.dumps(
    {"snapshot": 1, "protocol": {}, "held_out": {}, "arms": {"curated": ARM}, "minus": {}, "overlap": None}
)

SMALL = ["--model", "proxy-mu", "--steps", "2", "--batch", "8", "--seeds", "2", "--workers", "1", "--device", "cpu"]


def invoke(home: Path, *arguments: str, against: str = "test") -> dict[str, Any]:
    """The answer of `curate evaluate --json` with small models."""
    command = [*SMALL, *arguments, "--against", f"{home}/{against}", "--json"]
    result = CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def count_runs(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The data of every training from now on; the one after `stop_at` is interrupted."""
    seen: list[str] = []
    real = trials.run

    def run(job: Any, samples: Any) -> Any:
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(f"{job.data} {job.training.seed}")
        return real(job, samples)

    monkeypatch.setattr(trials, "run", run)
    return seen


def open_kept(home: Path, number: int) -> int:
    """The number of samples that a snapshot keeps."""
    return int(json.loads((home / f"out/snapshots/{number:06d}.json").read_text())["samples"]["kept"])
