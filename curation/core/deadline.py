"""The deadline of a call: the process ends once it has passed, by faulthandler's timer, whose thread needs no GIL.

It counts while the call works and stands still while its thread waits for a store. faulthandler has one timer, so a
process has one deadline at a time. Cost: 40 us to start and stop it.
"""

from __future__ import annotations

import faulthandler
import time
from typing import Any

LEAST_SECONDS = 0.001  # faulthandler takes no 0


class Deadline:
    """The seconds of work that are left, and the file (open, or its descriptor) for the traceback."""

    def __init__(self, seconds: float, file: Any) -> None:
        self.left, self.file, self.since = seconds, file, 0.0

    def start(self) -> None:
        """Count from now on."""
        self.since = time.monotonic()
        faulthandler.dump_traceback_later(max(self.left, LEAST_SECONDS), exit=True, file=self.file)

    def stop(self) -> None:
        """Stand still: the process does not end meanwhile."""
        faulthandler.cancel_dump_traceback_later()
        self.left -= time.monotonic() - self.since
