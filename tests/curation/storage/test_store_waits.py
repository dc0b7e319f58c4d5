"""Waits of a thread for its stores: noticed once each, by the watch of the same thread alone."""

from __future__ import annotations

import threading

import pytest

from curation.core.deadline import Deadline
from curation.storage.store_waits import pausing, waiting


class Noted(Deadline):
    """A deadline that notes the begin and the end of each wait instead of ending this process."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def stop(self) -> None:
        self.seen.append("begin")

    def start(self) -> None:
        self.seen.append("end")


def test_nested_waits_are_one() -> None:
    seen: list[str] = []
    with pausing(Noted(seen)):
        with waiting, waiting:
            assert seen == ["begin"]
        with waiting:
            pass
    assert seen == ["begin", "end"] * 2


def test_nothing_is_noticed_outside_the_watch() -> None:
    seen: list[str] = []
    with pausing(Noted(seen)):
        pass
    with waiting:
        assert seen == []


def test_a_watch_ends_with_an_error_and_the_outer_one_goes_on() -> None:
    outer, inner = list[str](), list[str]()
    with pausing(Noted(outer)):
        with pytest.raises(ValueError), pausing(Noted(inner)), waiting:
            raise ValueError
        assert (inner, outer) == (["begin", "end"], [])
        with waiting:
            pass
    assert (inner, outer) == (["begin", "end"], ["begin", "end"])


def test_waits_of_other_threads_stop_no_watch() -> None:
    seen: list[str] = []

    def wait() -> None:
        with waiting:
            pass

    with pausing(Noted(seen)):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert seen == []
