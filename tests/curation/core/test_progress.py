"""Progress: few lines in a log, a bar on a terminal, nothing on stdout."""

from __future__ import annotations

import sys

import pytest

from curation.core import progress as module
from curation.core.progress import progress


def test_plain_lines_are_few_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Scoring", 30_000) as advance:
        for _ in range(30_000):
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Scoring: 30,000 of 30,000 samples\n"


def test_a_line_when_it_is_time(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 4.0, 6.0, 8.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with progress("Deciding", None, "units") as advance:
        for _ in range(3):
            advance(6)
    lines = ["Deciding: 18 units, 3.0/s", "Deciding: 18 units, 2.2/s"]  # at 6 s and at the end; not at 2 s and 4 s
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("total", [10, None])
def test_bar_on_a_terminal(
    total: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("Writing", total) as advance:
        advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Writing" in err
