"""The process that waits for the one that Ray may end: exit codes, signals, restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.supervised import supervised

_RUNS = """
import os, signal, sys, time
from pathlib import Path
from jobs.supervised import supervised
from actors_note import note
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
tries, how = Path(sys.argv[1]), sys.argv[2]

def main(arguments):
    done = len(list(tries.iterdir()))
    if how == "interrupted":  # the test interrupts as soon as it sees the note
        try:
            (tries / str(done)).write_text(str(os.getpid()))
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(1)  # the orderly end, which a second interrupt would break
            (tries / "ended").write_text("x")
            return 130
    (tries / str(done)).write_text(str(os.getpid()))
    note(b"R")
    if how == "lost" and done < 2 or how == "always":
        os._exit(1)
    if how == "wait":
        time.sleep(600)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "first":  # the first process of a container: signals that it sends itself are ignored
        signal.raise_signal(signal.SIGTERM)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    note(b"E")
    return 4

if how == "first":
    os.kill = lambda *_: None
sys.exit(supervised(["run", "r.yaml", *sys.argv[3:]], main))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "tries").mkdir()
    # The same as actors.local_cluster.note, without Ray, which takes seconds to import.
    source = (Path(__file__).parents[2] / "actors" / "local_cluster.py").read_text()
    start = source.index("def note(")
    text = "import os\nfrom contextlib import suppress\n" + source[start : source.index("\n\n\n", start)]
    (tmp_path / "actors_note.py").write_text(text)
    (tmp_path / "script.py").write_text(_RUNS)
    return tmp_path


def start(home: Path, *words: str, session: bool = False) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), str(Path(__file__).parents[2])])}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, str(home / "script.py"), str(home / "tries"), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=session)


@pytest.mark.parametrize(
    ("words", "code", "tries", "lines"),
    [
        (["well"], 4, 1, 0),
        (["lost"], 4, 3, 2),
        (["always"], 3, 4, 4),
        (["always", "--address", "head:1"], 3, 1, 1),
        (["signal"], -signal.SIGSEGV, 1, 0),
        (["killed"], 137, 1, 1),
        (["first"], 143, 1, 0),
    ],
)
def test_what_ray_ends_begins_again(words: list[str], code: int, tries: int, lines: int, script: Path) -> None:
    process = start(script, *words)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == code, said
    assert len(list((script / "tries").iterdir())) == tries
    assert said.count("curate: ") == lines == len([line for line in said.splitlines() if line.startswith("curate: ")])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_both_die_of_a_signal_to_the_first(number: signal.Signals, script: Path) -> None:
    process = start(script, "wait")
    note = script / "tries" / "0"
    while not note.exists() or not note.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    child = int(note.read_text())
    process.send_signal(number)
    assert process.wait(60) == -number
    for _ in range(6000):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("the child lives on")


@pytest.mark.parametrize(("words", "code", "error"), [(["always"], 3, "lost_cluster"), (["killed"], 137, "killed")])
def test_a_machine_gets_one_object(words: list[str], code: int, error: str, script: Path) -> None:
    process = start(script, *words, "--json")
    (line,) = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == code and json.loads(line)["error"] == error
    assert json.loads(line)["fix"].startswith("run the same command again")


@pytest.mark.parametrize("group", [False, True])
def test_an_interrupt_reaches_the_child_once(group: bool, script: Path) -> None:
    process = start(script, "interrupted", session=True)
    note = script / "tries" / "0"
    while not note.exists() or not note.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and not said
    assert (script / "tries" / "ended").exists()


def test_a_command_without_ray_has_one_process() -> None:
    assert supervised(["show", "x"], lambda arguments: os.getpid()) == os.getpid()
    assert supervised(["run", "--help"], lambda arguments: os.getpid()) == os.getpid()
