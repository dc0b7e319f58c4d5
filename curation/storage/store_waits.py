"""Waits of a thread for its stores, during which the deadline of its work stands still.

`store.patience` limits the time of a request, so a deadline over a batch must not count it. Every call of a `Store`
waits inside `waiting`, which stops only a deadline that the same thread set with `pausing`: the requests of other
threads (tables that are put while a model works) stop none. Cost: 0.3 us a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from curation.core.deadline import Deadline


class _Waits(threading.local):
    """Per thread: the number of nested waits, the deadline that stands still meanwhile, and the seconds waited."""

    depth = 0
    seconds = 0.0
    since = 0.0
    deadline: Deadline | None = None

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self.since = time.perf_counter()
            if self.deadline is not None:
                self.deadline.stop()

    def __exit__(self, *error: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.since
            if self.deadline is not None:
                self.deadline.start()


waiting = _Waits()


@contextmanager
def pausing(deadline: Deadline) -> Iterator[None]:
    """Stop the deadline during each wait of this thread for a store, while the block runs."""
    before, waiting.deadline = waiting.deadline, deadline
    try:
        yield
    finally:
        waiting.deadline = before
