"""One watch a process: what is timed, what is not, and what is left of its time. A faulthandler that only notes."""

from __future__ import annotations

import faulthandler
import io
import time

import pytest

from curation.core.deadline import LEAST_SECONDS
from curation.curating.scoring.watch import watched
from curation.storage.store_waits import waiting


class Timer:
    """faulthandler's timer and the clock: `armed` holds the seconds it is set to, None where it is stopped."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.armed: float | None = None
        self.now, self.file = 100.0, None
        patch.setattr(faulthandler, "dump_traceback_later", self.set)
        patch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: setattr(self, "armed", None))
        patch.setattr(time, "monotonic", lambda: self.now)

    def set(self, seconds: float, *, exit: bool, file: object) -> None:
        assert exit and self.armed is None
        self.armed, self.file = seconds, file


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    return Timer(monkeypatch)


def test_a_watch_within_a_watch_has_no_effect(timer: Timer) -> None:
    file = io.BytesIO()
    with watched(10, file):
        assert timer.armed == 10 and timer.file is file
        with watched(1):
            assert timer.armed == 10
        assert timer.armed == 10, "leaving the inner one stops nothing"
    assert timer.armed is None
    with pytest.raises(KeyError), watched(5):
        raise KeyError
    assert timer.armed is None
    with watched(5):
        assert timer.armed == 5


def test_a_wait_for_a_store_takes_none_of_its_time(timer: Timer) -> None:
    with waiting:
        pass
    with watched(10):
        timer.now += 4
        with waiting:
            assert timer.armed is None
            with waiting:
                timer.now += 1000
            assert timer.armed is None
        assert timer.armed == 6
        timer.now += 7
        with pytest.raises(OSError, match="gone"), waiting:
            raise OSError("gone")
        assert timer.armed == LEAST_SECONDS
    with waiting:
        assert timer.armed is None
    assert timer.armed is None
