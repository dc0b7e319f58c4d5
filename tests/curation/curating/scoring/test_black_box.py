"""The files that a process leaves when it dies: its note, its fault and its findings. Real processes die here."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curation.curating.scoring import black_box
from curation.curating.scoring.black_box import BlackBox, Findings, NullBlackBox

_DIES = """
import ctypes, os, sys, time
from pathlib import Path
from curation.curating.scoring.black_box import BlackBox
box = BlackBox(Path(sys.argv[1]))
assert box.last is None
box.begin(7)
how = sys.argv[2]
if how == "decoding":
    box.decoding(2, 11)
    os._exit(3)
if how == "found":
    box.passed(0, 16)
    box.passed(0, 32)
    box.passed(1, 4)
    box.cleared("clip", [(0, 33, 33)])
    box.aside("clip", [(1, 5, 5)], "poison_raised", "ValueError: no")
    os._exit(3)
if how == "idle":
    box.decoding(2, 11)
    box.decoding(2, -1)
    with box.scoring("clip", [(0, 1, 2)]):
        pass
    os._exit(3)
with box.scoring("clip", [(0, 5, 9), (1, 0, 3)]), box.watched(0.5 if how == "hang" else 300):
    if how == "crash":
        ctypes.string_at(0)
    if how == "hang":
        ctypes.PyDLL(None).usleep(600_000_000)
    if how == "error":
        box.die(RuntimeError("CUDA error: device-side assert\\nmore"))
    os._exit(3)
"""


@pytest.mark.parametrize(
    ("how", "column", "spans", "hung", "fault"),
    [
        ("exit", "clip", [(0, 5, 9), (1, 0, 3)], False, ""),
        ("crash", "clip", [(0, 5, 9), (1, 0, 3)], False, "Fatal Python error: Segmentation fault"),
        ("hang", "clip", [(0, 5, 9), (1, 0, 3)], True, "Timeout (0:00:00.500000)!"),
        ("error", "clip", [(0, 5, 9), (1, 0, 3)], False, "RuntimeError: CUDA error: device-side assert"),
        ("decoding", None, [(2, 11, 11)], False, ""),
        ("idle", None, [], False, ""),
    ],
)
def test_a_box_outlives_its_process(
    how: str, column: str | None, spans: list[Any], hung: bool, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "box"
    subprocess.run([sys.executable, "-c", _DIES, str(path), how], cwd=Path(__file__).parents[4], capture_output=True)
    found = black_box.read(path)
    assert found == (7, column, spans, hung, fault, Findings())
    box = BlackBox(path)
    try:
        assert box.last == found == BlackBox(path).last  # also for the one after a process that never began
        box.begin(8)
        assert black_box.read(path) == (8, None, [], False, "", Findings())
    finally:
        faulthandler.disable()
    assert black_box.read(tmp_path / "none") is None


def test_what_a_call_has_found_outlives_its_process_until_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "box"
    subprocess.run([sys.executable, "-c", _DIES, str(path), "found"], cwd=Path(__file__).parents[4], check=False)
    found = Findings({0: 32, 1: 4}, [("clip", 0, 33)], {("clip", 1, 5): ("poison_raised", "ValueError: no")})
    last = black_box.read(path)
    assert last is not None and (last.call, last.spans, last.found) == (7, [], found)
    with (tmp_path / "box.found").open("a") as file:
        file.write('["passed", 0, 4')  # cut in the middle of a line
    box = BlackBox(path)
    faulthandler.disable()
    assert box.last == last
    box.begin(8)
    assert black_box.read(path) == (8, None, [], False, "", Findings())


def test_a_note_that_is_too_long_names_the_scorer_at_least(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box")
    faulthandler.disable()
    box.begin(1)
    with box.scoring("clip", [(place, 0, 255) for place in range(5000)]):
        assert black_box.read(tmp_path / "box") == (1, "clip", [], False, "", Findings())


def test_errors_of_any_text_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = BlackBox(tmp_path / "box")
    faulthandler.disable()
    box.begin(1)
    box.aside("clip", [(0, 5, 5)], "poison_raised", "ValueError: \udcff")
    monkeypatch.setattr("os._exit", lambda code: None)
    box.die(RuntimeError("\ud800 and\nmore"))
    last = black_box.read(tmp_path / "box")
    assert last is not None and last.fault == "RuntimeError: ? and"
    assert last.found.aside == {("clip", 0, 5): ("poison_raised", "ValueError: ?")}


def test_a_process_that_nobody_watches_raises_what_it_can_not_get_over() -> None:
    box = NullBlackBox()
    with box.watched(0.001), box.scoring("clip", []), pytest.raises(MemoryError):
        box.die(MemoryError())
