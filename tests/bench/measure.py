"""Run a command in a process of its own and measure the process tree below it, through /proc (Linux)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
PERIOD = 0.5  # seconds between two samples of /proc; each costs about 3 ms
PSS_EVERY = 6  # samples: for PSS the kernel walks all pages, some 20 ms of a core for each GB


@dataclass(frozen=True)
class Measured:
    """Wall seconds from before the process started until it was gone; CPU seconds and peak bytes of the whole tree.

    `rss` counts a page once for each process that maps it, as most tools do; `pss` divides it among them, so that
    libraries and Ray's shared memory count once.
    """

    seconds: float
    cpu: float
    rss: int
    pss: int
    said: dict[str, Any]  # the JSON of its last line


def measure(command: Sequence[str], env: dict[str, str] | None = None) -> Measured:
    """Run `command`, whose last line of output is JSON. BENCH_BORN holds the time of its start (time.time())."""
    born = time.time()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {}), "BENCH_BORN": str(born)},
    )  # fmt: skip
    tree = _Tree(process.pid)
    watcher = threading.Thread(target=tree.watch, daemon=True)
    watcher.start()
    out, err = process.communicate()
    seconds = time.time() - born
    tree.done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{err[-3000:]}")
    assert tree.seen, "no process was sampled"
    return Measured(seconds, tree.cpu, tree.rss, tree.pss, json.loads(out.splitlines()[-1]))


class _Tree:
    """The processes below one, including those whose parent died after they were first seen."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.done = threading.Event()
        self.rss = self.pss = 0
        self.seen: dict[tuple[int, str], float] = {}  # (pid, start) -> CPU seconds

    def watch(self) -> None:
        looks = 0
        while not self.done.wait(PERIOD):
            looks += 1
            self.look(shares=looks % PSS_EVERY == 0)

    def look(self, *, shares: bool) -> None:
        found = {int(path.name): stat for path in Path("/proc").glob("[0-9]*") if (stat := _stat(path))}
        alive = {pid for pid, _ in self.seen if pid in found and (pid, found[pid][1]) in self.seen} | {self.root}
        while more := {pid for pid, stat in found.items() if stat[0] in alive} - alive:
            alive |= more
        rss = pss = 0
        for pid in alive & found.keys():
            _, start, cpu, resident = found[pid]
            self.seen[pid, start] = cpu
            rss += resident
            pss += _pss(pid) if shares else 0
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)

    @property
    def cpu(self) -> float:
        return sum(self.seen.values())


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
