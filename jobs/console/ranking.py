"""Rank a served queue again beside its server: a thread that waits for a round's answers, and starts a process.

A process, because training on this one's threads would delay the page. A server that is killed leaves it running; its
order is stored whole or not at all, and a server that starts again ranks if no order of the round exists.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import click

from curation.core.printable import printable
from curation.review.session import Session

POLL_SECONDS = 1.0  # between two looks at the number of answers


@contextmanager
def background(session: Session, url: str, every: int) -> Iterator[None]:
    """Rank the queue of a session again after every `every` answers, while the block runs; 0: never."""
    stop = Event()
    if not every:
        yield
        return
    thread = Thread(target=_watch, args=(session, url, every, stop), daemon=True, name="tutelage-ranking")
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _watch(session: Session, url: str, every: int, stop: Event) -> None:
    failed = -1  # the round whose ranking failed: tried again with the next one
    while not stop.wait(POLL_SECONDS):
        number = session.spent // every
        if number == failed or not session.is_due(every):
            continue
        session.look_for_order()  # of another server
        if session.is_due(every) and not _rank(url, every):
            failed = number
        session.look_for_order()


def _rank(url: str, every: int) -> bool:
    """Run `curate review rerank`, on all cores but one; print what it says, and return whether it succeeded."""
    threads = max(1, min(8, (os.cpu_count() or 2) - 1))
    words = ["review", "rerank", url, "--every", str(every), "--threads", str(threads)]
    command = [sys.executable, "-m", "jobs.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout.strip() if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
    click.echo("\n".join(printable(line) for line in said.splitlines()), err=done.returncode != 0)
    return done.returncode == 0
