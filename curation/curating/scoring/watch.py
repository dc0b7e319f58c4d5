"""End this process when a call takes too long: with faulthandler's timer, whose thread needs no GIL.

faulthandler has one timer, so a process has one watch: within a watch, another one has no effect, and the time of the
outer one covers both. A watch stands still while its thread waits for a store (`curation.storage.store_waits`).
Cost: 40 us to set and stop it, for each watch and for each wait within it.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curation.storage.store_waits import observed

LEAST_SECONDS = 0.001  # faulthandler takes no 0


class _Timer:
    """Seconds of work that are left, and when they began to count."""

    def __init__(self, seconds: float, file: Any) -> None:
        self.left, self.file, self.since = seconds, file, 0.0

    def start(self) -> None:
        self.since = time.monotonic()
        faulthandler.dump_traceback_later(max(self.left, LEAST_SECONDS), exit=True, file=self.file)

    def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.left -= time.monotonic() - self.since


_timers: list[_Timer] = []  # of this process: none, or one


@contextmanager
def watched(seconds: float, file: Any = None) -> Iterator[None]:
    """End this process with a traceback in `file` (stderr) once it has spent `seconds` within `with`."""
    if _timers:
        yield
        return
    timer = _Timer(seconds, file or sys.stderr)
    _timers.append(timer)
    try:
        timer.start()
        with observed(timer.stop, timer.start):
            yield
    finally:
        timer.stop()
        _timers.remove(timer)
