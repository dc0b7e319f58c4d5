"""The retry budget of a call to an object store, and the request counts of a Store.

Every call follows one rule: exponential backoff with jitter, from 0.1 s doubling to 5 s, until `patience` seconds have
passed without progress (a new byte, key or part). Only the monotonic clock is used, and only for waiting.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field

from curation.core.errors import AccessError, StoreError, UnavailableError
from curation.core.printable import printable
from curation.storage.backend import Backend
from curation.storage.errors import TransientError

FIRST, MOST = 0.1, 5.0  # seconds of the first pause and of the longest
_QUIET = 5.0  # seconds of failures before a warning that requests are being retried
_BETWEEN = 30.0  # seconds between two warnings of one process: a thousand threads may wait for one store

_log = logging.getLogger("curation.storage.store")
_last_warning = [float("-inf")]


@dataclass
class Stats:
    """Request counts of a Store in this process. obstore's own retries of multipart uploads are not counted."""

    gets: int = 0
    puts: int = 0
    creates: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to the named counts. Thread-safe."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class RetryBudget:
    """The time that one call may spend without progress, in seconds. Pauses have jitter, to spread workers out.

    `backend`: renews the credentials that a store refuses.
    """

    def __init__(self, patience: float, stats: Stats, backend: Backend) -> None:
        self.patience, self.stats, self.backend = patience, stats, backend
        self.renew()

    def renew(self) -> None:
        """Restart the budget: after progress, or when the time since was spent by the caller."""
        self.failures, self.began = 0, time.monotonic()

    def retry(self, error: StoreError) -> None:
        """Return if another attempt is useful, after a pause; raise the error otherwise."""
        if isinstance(error, TransientError):
            self.spend(error)
        elif not (isinstance(error, AccessError) and self.backend.renew_credentials()):
            raise error

    def spend(self, error: TransientError) -> None:
        """Wait before the next attempt. Raises `UnavailableError` once the budget is spent."""
        self.failures += 1
        passed = time.monotonic() - self.began
        if passed >= self.patience:
            raise self._gave_up(error, passed) from None
        pause = random.uniform(0.5, 1) * min(MOST, FIRST * 2 ** min(self.failures - 1, 16))
        self.stats.add(retries=1)
        if passed > _QUIET:
            self._warn(error)
        time.sleep(min(pause, self.patience - passed))  # so the last attempt starts when the budget ends

    def _gave_up(self, error: TransientError, passed: float) -> UnavailableError:
        attempts = "once" if self.failures == 1 else f"{self.failures} times in {passed:.0f} s"
        fix = f"raise store.patience in the recipe (now {self.patience:g} s) to retry requests for longer"
        return UnavailableError(f"{error} (tried {attempts})", fix=f"{error.fix}; {fix}" if error.fix else fix)

    def _warn(self, error: TransientError) -> None:
        now = time.monotonic()
        if now - _last_warning[0] > _BETWEEN:
            _last_warning[0] = now
            text = printable(f"store: {error}; retrying for up to {self.patience:g} s (store.patience)")
            _log.warning("%s", text)
