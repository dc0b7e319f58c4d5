"""Write a bench's figures into its page of docs/results: command, date, commit and machine, then the figures.

A page holds prose and, between two comments, the figures of the last whole run, which the next one replaces:

    <!-- figures: NAME -->
    ...
    <!-- end: NAME -->

Older figures are in the page's git history. The index, docs/results/README.md, gets its table from the pages.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/results"
INDEX = "README.md"


def facts(seconds: float, cpu: float | None = None) -> list[str]:
    """Command, date, commit and machine, a line each.

    `seconds`: wall time of the bench; `cpu`: CPU seconds of its processes, which a busy neighbour changes little.
    """
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain", "--", "curation", "actors", "jobs"], capture_output=True)
    load = os.getloadavg()
    took = f"{seconds:.0f} s" + (f"; {cpu:,.0f} s of CPU" if cpu is not None else "")
    return [
        f"command: python {' '.join(sys.argv)} ({took})",
        f"measured: {time.strftime('%Y-%m-%d', time.gmtime())}, code {commit or 'unknown'}"
        f"{' with uncommitted changes' if dirty.stdout else ''}",
        f"machine: {len(os.sched_getaffinity(0))} cores, {_cpu()}{_gpus()}; load average {load[0]:.1f} (5 min "
        f"{load[1]:.1f})",
    ]


def write(page: str, name: str, facts: Sequence[str], figures: Sequence[str], folder: Path = PAGES) -> None:
    """Replace the figures `name` of the page `page`, and bring the index up to date.

    `figures`: lines of Markdown. Raises `ValueError` for a page without such a block.
    """
    path = folder / f"{page}.md"
    lines = "\n".join([*(f"- {fact}" for fact in facts), "", *figures]).strip("\n")
    text, found = _block(name).subn(
        lambda match: f"<!-- figures: {name} -->\n{lines}\n<!-- end: {name} -->", path.read_text(encoding="utf-8")
    )
    if found != 1:
        raise ValueError(f"{path}: no block `<!-- figures: {name} -->` ... `<!-- end: {name} -->`; add it to the page")
    path.write_text(text, encoding="utf-8")
    write_index(folder)
    print(f"wrote the figures {name} of {path}")


def write_index(folder: Path = PAGES) -> None:
    """Replace the table of the index with one row for each block of figures."""
    path = folder / INDEX
    rows = ["| page | figures | measured |", "|---|---|---|", *_rows(folder)]
    table = "\n".join(["<!-- figures: index -->", *rows, "<!-- end: index -->"])
    path.write_text(_block("index").sub(lambda match: table, path.read_text(encoding="utf-8")), encoding="utf-8")


def _rows(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        for block in _block(r"[^>]+?").finditer(text) if path.name != INDEX else ():
            name = block[1]
            when = re.search(r"^- measured: (.*)$", block[0], re.MULTILINE)
            yield f"| [{title}]({path.name}) | {name} | {when[1] if when else 'never'} |"


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- figures: ({name}) -->\n.*?<!-- end: \1 -->", re.DOTALL)


def _gpus() -> str:
    """The names of the GPUs, if the bench has imported torch."""
    torch = sys.modules.get("torch")
    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())] if torch is not None else []
    return f", {', '.join(names)}" if names else ""


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
