"""End this process when a call takes too long: with faulthandler's timer, whose thread needs no GIL.

faulthandler has one timer, so a process has one watch: within a watch, another one has no effect, and the time of the
outer one covers both. A watch stands still while its thread waits for a store (`curation.storage.store_waits`).
Cost: 40 us to set and stop it, for each watch and for each wait within it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curation.core.deadline import Deadline
from curation.storage.store_waits import pausing

_deadlines: list[Deadline] = []  # of this process: none, or one


@contextmanager
def watched(seconds: float, file: Any = None) -> Iterator[None]:
    """End this process with a traceback in `file` (stderr) once it has spent `seconds` within `with`."""
    if _deadlines:
        yield
        return
    deadline = Deadline(seconds, file or sys.stderr)
    _deadlines.append(deadline)
    try:
        deadline.start()
        with pausing(deadline):
            yield
    finally:
        deadline.stop()
        _deadlines.remove(deadline)
