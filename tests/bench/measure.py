"""Run a command in a process of its own and measure the process tree below it (Linux).

CPU seconds are exact where every process of the tree is waited for: this process adopts orphans (a forkserver, Ray's
daemons) and reaps them. What nobody waits for is counted by looking at /proc every half second.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
PERIOD = 0.5  # seconds between two samples of /proc; each costs about 3 ms
PSS_EVERY = 6  # samples: for PSS the kernel walks all pages, some 20 ms of a core for each GB
ORPHANS = 10.0  # seconds until orphans of a command that has ended are killed
SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER


class CommandError(Exception):
    """A command failed or took too long; the text is its last lines."""


@dataclass(frozen=True)
class Measured:
    """Wall seconds from before the process started until it was gone; CPU seconds and peak bytes of the whole tree.

    `rss` counts a page once for each process that maps it, as most tools do; `pss` divides it among them, so that
    libraries and Ray's shared memory count once. `said`: the JSON of the last line, or nothing.
    """

    seconds: float
    cpu: float
    rss: int
    pss: int
    said: dict[str, Any] = field(default_factory=dict)


def measure(command: Sequence[str], env: Mapping[str, str] | None = None, limit: float = 3600) -> Measured:
    """Run `command` and measure it. BENCH_BORN holds the time of its start (time.time()) for it.

    limit: seconds after which the whole tree is killed. Raises `CommandError`.
    """
    with _adopting():
        return _measure(command, env or {}, limit)


@contextmanager
def _adopting() -> Iterator[None]:
    """Let orphans become children of this process."""
    prctl = ctypes.CDLL(None).prctl
    prctl(SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(SUBREAPER, 0, 0, 0, 0)


def _measure(command: Sequence[str], env: Mapping[str, str], limit: float) -> Measured:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        born = time.time()
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True,
                                   env={**os.environ, **env, "BENCH_BORN": str(born)})  # fmt: skip
        tree = ProcessTree(process.pid)
        watcher = threading.Thread(target=tree.watch, daemon=True)
        watcher.start()
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        except BaseException:  # an interrupted bench leaves nothing running
            tree.look(shares=False)
            tree.end(patience=0)
            raise
        seconds = time.time() - born
        tree.done.set()
        watcher.join()
        tree.end(patience=ORPHANS if code == 0 else 0)
        said, text = (_read(file) for file in (out, err))
    if code != 0:
        what = f"took more than {limit:.0f} s" if code is None else f"exit code {code}"
        raise CommandError(f"{' '.join(command)}: {what}\n{said[-1000:]}\n{text[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    reaped = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, max(reaped, tree.cpu), tree.rss, tree.pss, last_json(said))


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON object in the last line of a text, or an empty one."""
    lines = text.strip().splitlines()
    with suppress(ValueError):
        found = json.loads(lines[-1]) if lines else {}
        return found if isinstance(found, dict) else {}
    return {}


class ProcessTree:
    """The processes below one, including those whose parent died after they were first seen."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.done = threading.Event()
        self.rss = self.pss = 0
        self.seen: dict[tuple[int, str], float] = {}  # (pid, start) -> CPU seconds

    def watch(self) -> None:
        """Look until `done` is set."""
        looks = 0
        while not self.done.wait(PERIOD):
            looks += 1
            self.look(shares=looks % PSS_EVERY == 0)

    def look(self, *, shares: bool) -> None:
        """Sample all processes once. shares: also their PSS."""
        found = {int(path.name): stat for path in Path("/proc").glob("[0-9]*") if (stat := _stat(path))}
        alive = self._alive(found) | {self.root}
        while more := {pid for pid, stat in found.items() if stat[0] in alive} - alive:
            alive |= more
        rss = pss = 0
        for pid in alive & found.keys():
            _, start, cpu, resident = found[pid]
            self.seen[pid, start] = cpu
            rss += resident
            pss += _pss(pid) if shares else 0
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)

    def end(self, patience: float) -> None:
        """Reap what is left of the tree, and kill it after `patience` seconds."""
        deadline = time.monotonic() + patience
        while left := self._left():
            if time.monotonic() > deadline:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

    @property
    def cpu(self) -> float:
        return sum(self.seen.values())

    def _left(self) -> set[int]:
        pids = {pid for pid, _ in self.seen}
        return self._alive({pid: stat for pid in pids if (stat := _stat(Path(f"/proc/{pid}")))})

    def _alive(self, found: Mapping[int, tuple[int, str, float, int]]) -> set[int]:
        return {pid for pid, start in self.seen if pid in found and found[pid][1] == start}


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _stat(path: Path) -> tuple[int, str, float, int] | None:
    """(parent, start, CPU seconds, resident bytes) of a process; None once it is gone."""
    try:
        fields = (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), fields[19], (int(fields[11]) + int(fields[12])) / TICK, int(fields[21]) * PAGE


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:")), 0)
