"""How long a request to an object store may go on failing, and what a Store counts.

Exponential backoff with jitter, 0.1 s doubling to 2 s, ended by seconds or by attempts without progress. The clock used
is the monotonic one, and only for waiting.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from curation.store_errors import TransientError

_ATTEMPTS = 12  # without progress; the patience in seconds usually ends first


@dataclass
class Stats:
    """What a Store did in this process. `retries` are ours: obstore's own, in listings and uploads, are not seen."""

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


class Budget:
    """Attempts and seconds that may be spent on one call without progress. Full jitter, so that workers spread out."""

    def __init__(self, patience: float, stats: Stats) -> None:
        self.patience, self.stats = patience, stats
        self.renew()

    def renew(self) -> None:
        self.failures, self.began = 0, time.monotonic()

    def spend(self, error: TransientError) -> None:
        """Wait before the next attempt, or raise what is the matter."""
        pause = random.uniform(0.5, 1) * min(2.0, 0.1 * 2**self.failures)
        self.failures += 1
        if self.failures >= _ATTEMPTS or time.monotonic() - self.began + pause > self.patience:
            raise error
        self.stats.add(retries=1)
        time.sleep(pause)
