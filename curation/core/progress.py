"""The progress display of every job, on stderr: a rich bar on a terminal, plain lines elsewhere.

Plain lines are printed at most every 5 s and at the end, so the log of an hour's run has hundreds of lines, not
millions. `advance(n)` costs a lock and a comparison when no line is due, and is thread-safe.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from curation.core.printable import printable

Tick = Callable[[int], None]  # called with the number of items completed since the last call

PLAIN_SECONDS = 5.0  # between two plain lines
PLAIN_SHARE = 0.1  # a line is also due after this share of the total, if the last one is a second old


class Note:
    """Text shown after the figures; it may change while the work goes on."""

    text = ""

    def say(self, text: str) -> None:
        """Replace the text, made printable."""
        self.text = printable(text)


def progress(
    label: str, total: int | None, unit: str = "samples", note: Note | None = None
) -> AbstractContextManager[Tick]:
    """Show progress in a block: `with progress("Scoring", 30_000) as advance: advance(256)`.

    `total`: the number of `unit`s, or None if unknown. `note`: text shown after the figures.
    """
    note = note or Note()
    return _bar(label, total, unit, note) if sys.stderr.isatty() else _lines(label, total, unit, note)


@contextmanager
def _bar(label: str, total: int | None, unit: str, note: Note) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    if total is not None:
        columns += [TaskProgressColumn(show_speed=True), TimeRemainingColumn(elapsed_when_finished=True)]
    columns.append(TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")
        yield lambda n: bar.update(task, advance=n, note=note.text)


@contextmanager
def _lines(label: str, total: int | None, unit: str, note: Note) -> Iterator[Tick]:
    began = printed = time.monotonic()
    done = printed_done = 0
    lock = threading.Lock()

    def print_line(now: float) -> None:
        share = f" of {total:,}" if total is not None else ""
        speed = done / max(now - began, 1e-9)
        rate = f", {speed:,.{0 if speed >= 10 else 1}f}/s" if now - began >= 1 else ""
        suffix = f"; {note.text}" if note.text else ""
        print(f"{label}: {done:,}{share} {unit}{rate}{suffix}", file=sys.stderr, flush=True)

    def advance(n: int) -> None:
        nonlocal done, printed, printed_done
        with lock:
            done += n
            now = time.monotonic()
            step = total is not None and done - printed_done >= PLAIN_SHARE * total and now - printed >= 1
            if step or now - printed >= PLAIN_SECONDS:
                printed, printed_done = now, done
                print_line(now)

    yield advance
    print_line(time.monotonic())
