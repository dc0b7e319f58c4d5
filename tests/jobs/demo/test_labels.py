"""The demo's step on labels, on few samples: its commands fit together, and ranked answers beat random ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import command

from jobs.demo import labels

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labels, "SAMPLES", 400)
    monkeypatch.setattr(labels, "BUDGET", 120)
    command("corpus", "openmoji-icons", "--out", "demo/corpus", "--limit", "400", "--samples-per-shard", "200")
    said: list[str] = []

    def curate(*words: str) -> dict[str, Any]:
        said.append(" ".join(words[:2]))
        found: dict[str, Any] = json.loads(command(*words, "--json"))
        return found

    report = labels.clean_labels(Path("demo/labels"), curate)
    lines = labels.lines(report)
    assert all(line.startswith("simulated annotators: ") for line in lines) and len(lines) == 2
    assert report["truth"]["known"] - report["truth"]["correct_before"] == 80
    corrected = report["truth"]["fixed"] - report["truth"]["worse"]
    assert corrected > report["curve"]["slope"] * 120 + 5, lines
    shown = json.loads(command("show", "demo/labels/corrected", "--json"))
    assert shown["samples"]["kept"] == 400
    assert Path("demo/labels/report.html").exists()
    again = labels.clean_labels(Path("demo/labels"), curate)
    assert again == report, "repeated, every step finds its work done"
