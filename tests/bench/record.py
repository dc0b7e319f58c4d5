"""Appends what a bench measured to RESULTS.md: command, commit, machine, then its figures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "RESULTS.md"


def facts(seconds: float, cpu: float | None = None) -> list[str]:
    """Command, commit and machine, a line each; `cpu`: what its processes used, which busy neighbours change little."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain", "--", "curation", "actors", "jobs"], capture_output=True)
    load = os.getloadavg()
    took = f"{seconds:.0f} s" + (f"; {cpu:,.0f} s of CPU" if cpu is not None else "")
    return [
        f"command: python {' '.join(sys.argv)} ({took})",
        f"commit {commit or 'unknown'}{' with uncommitted changes' if dirty.stdout else ''}",
        f"machine: {len(os.sched_getaffinity(0))} cores, {_cpu()}{_gpus()}; load average {load[0]:.1f} (5 min "
        f"{load[1]:.1f})",
    ]


def append(facts: Sequence[str], figures: Sequence[str]) -> None:
    """One entry of RESULTS.md, under today's date; `figures`: lines of Markdown."""
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    lines = ["", f"## {date} UTC", "", *(f"- {fact}" for fact in facts), "", *figures, ""]
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines))
    print(f"appended to {RESULTS}")


def _gpus() -> str:
    """Asked of torch only where a bench has loaded it."""
    torch = sys.modules.get("torch")
    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())] if torch is not None else []
    return f", {', '.join(names)}" if names else ""


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
