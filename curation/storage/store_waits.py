"""Notification of a watchdog that its thread is waiting for a store, so that it pauses its own deadline.

`store.patience` limits the time of a request, so a watchdog over a batch must not count it. Every call of a `Store`
waits inside `waiting`, which calls back only if the same thread is inside `observed`: the requests of other threads
(tables that are put while a model works) pause no watchdog. Cost: 0.3 us a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[], None]


class _Waits(threading.local):
    """Per thread: the number of nested waits, the callbacks for the start of the first and the end of the last, and the
    seconds waited so far."""

    depth = 0
    seconds = 0.0
    since = 0.0
    begin: Step | None = None
    end: Step | None = None

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self.since = time.perf_counter()
            if self.begin is not None:
                self.begin()

    def __exit__(self, *error: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.since
            if self.end is not None:
                self.end()


waiting = _Waits()


@contextmanager
def observed(begin: Step, end: Step) -> Iterator[None]:
    """Call `begin` before and `end` after each wait of this thread for a store, while the block runs."""
    before = waiting.begin, waiting.end
    waiting.begin, waiting.end = begin, end
    try:
        yield
    finally:
        waiting.begin, waiting.end = before
