"""How long a call to an object store may go on failing, and what a Store counts.

One rule for every call: exponential backoff with jitter, 0.1 s doubling to 5 s, until `patience` seconds have passed
without progress (a byte, a key, a part that was not had before). The monotonic clock is used, and only for waiting.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field

from curation.core.errors import UnavailableError
from curation.core.printable import printable
from curation.storage.errors import TransientError

FIRST, MOST = 0.1, 5.0  # seconds of the first pause and of the longest
_QUIET = 5.0  # seconds of failing before a person is told that the store is being retried
_BETWEEN = 30.0  # seconds between two such lines of one process: a thousand threads may wait for one store

_log = logging.getLogger("curation.storage.store")
_told = [float("-inf")]


@dataclass
class Stats:
    """What a Store did in this process. Retries of parts of a multipart upload are obstore's own and not counted."""

    gets: int = 0
    puts: int = 0
    creates: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class RetryBudget:
    """Seconds that one call may spend without progress. Pauses have jitter, so that workers spread out."""

    def __init__(self, patience: float, stats: Stats) -> None:
        self.patience, self.stats = patience, stats
        self.renew()

    def renew(self) -> None:
        """There was progress, or the time since the last one was the caller's own."""
        self.failures, self.began = 0, time.monotonic()

    def spend(self, error: TransientError) -> None:
        """Wait before the next attempt. Raises `UnavailableError` once the budget is spent."""
        self.failures += 1
        passed = time.monotonic() - self.began
        if passed >= self.patience:
            raise self._gave_up(error, passed) from None
        pause = random.uniform(0.5, 1) * min(MOST, FIRST * 2 ** min(self.failures - 1, 16))
        self.stats.add(retries=1)
        if passed > _QUIET:
            self._tell(error)
        time.sleep(min(pause, self.patience - passed))  # the last attempt is made when the budget ends

    def _gave_up(self, error: TransientError, passed: float) -> UnavailableError:
        attempts = "once" if self.failures == 1 else f"{self.failures} times in {passed:.0f} s"
        fix = f"store.patience in the recipe ({self.patience:g} s here) is how long a request is retried"
        return UnavailableError(f"{error} (tried {attempts})", fix=f"{error.fix}; {fix}" if error.fix else fix)

    def _tell(self, error: TransientError) -> None:
        now = time.monotonic()
        if now - _told[0] > _BETWEEN:
            _told[0] = now
            text = printable(f"store: {error}; retrying for up to {self.patience:g} s (store.patience)")
            _log.warning("%s", text)
