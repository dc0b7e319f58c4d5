"""The demo's end, on few samples: a planted cause is found by its failures, and training without it helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import command

from jobs.demo import cause

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("SAMPLES", 500), ("PLANTED", 40), ("FIELD", 160), ("STEPS", 60)):
        monkeypatch.setattr(cause, name, value)
    command("corpus", "openmoji-icons", "--out", "demo/corpus", "--limit", "660", "--samples-per-shard", "330")

    def curate(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(command(*words, "--json"))
        return found

    found = cause.find_cause(Path("demo/cause"), curate)
    assert found["failures"] >= 10 and found["found"] >= 20, found
    assert found["rates"][1] > found["rates"][0] + 0.01, found
    assert len(cause.lines(found)) == 2 and Path("demo/cause/report.html").exists()
    assert cause.find_cause(Path("demo/cause"), curate) == found, "repeated, every step finds its work done"
