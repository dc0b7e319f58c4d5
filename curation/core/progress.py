"""One progress display for every job: a rich bar on a terminal, a plain line now and then elsewhere. Always stderr.

Plain lines come at most every 5 s (and at the end), so that a log of an hour's run has hundreds of lines, not millions.
`advance(n)` costs a lock and a comparison when nothing is due, and may be called from any thread.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from curation.core.printable import printable

Tick = Callable[[int], None]  # so many more are done

PLAIN_SECONDS = 5.0  # between two plain lines
PLAIN_SHARE = 0.1  # or after this share of the total, if the last line is a second old


class Note:
    """A few words that stand behind the figures and change while the work goes on."""

    text = ""

    def say(self, text: str) -> None:
        self.text = printable(text)


def progress(
    label: str, total: int | None, unit: str = "samples", note: Note | None = None
) -> AbstractContextManager[Tick]:
    """`with progress("Scoring", 30_000) as advance: advance(256)`; total None: how many is not known beforehand."""
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
    began = said = time.monotonic()
    done = said_done = 0
    lock = threading.Lock()

    def say(now: float) -> None:
        share = f" of {total:,}" if total is not None else ""
        speed = done / max(now - began, 1e-9)
        rate = f", {speed:,.{0 if speed >= 10 else 1}f}/s" if now - began >= 1 else ""
        words = f"; {note.text}" if note.text else ""
        print(f"{label}: {done:,}{share} {unit}{rate}{words}", file=sys.stderr, flush=True)

    def advance(n: int) -> None:
        nonlocal done, said, said_done
        with lock:
            done += n
            now = time.monotonic()
            step = total is not None and done - said_done >= PLAIN_SHARE * total and now - said >= 1
            if step or now - said >= PLAIN_SECONDS:
                said, said_done = now, done
                say(now)

    yield advance
    say(time.monotonic())
