"""Waits of a thread for its stores: noticed once each, by the watch of the same thread alone."""

from __future__ import annotations

import threading

import pytest

from curation.storage.store_waits import observed, waiting


def test_nested_waits_are_one() -> None:
    seen: list[str] = []
    with observed(lambda: seen.append("begin"), lambda: seen.append("end")):
        with waiting, waiting:
            assert seen == ["begin"]
        with waiting:
            pass
    assert seen == ["begin", "end"] * 2


def test_nothing_is_noticed_outside_the_watch() -> None:
    seen: list[str] = []
    with observed(lambda: seen.append("begin"), lambda: seen.append("end")):
        pass
    with waiting:
        assert seen == []


def test_a_watch_ends_with_an_error_and_the_outer_one_goes_on() -> None:
    outer, inner = list[str](), list[str]()
    with observed(lambda: outer.append("begin"), lambda: outer.append("end")):
        with pytest.raises(ValueError), observed(lambda: inner.append("begin"), lambda: inner.append("end")), waiting:
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

    with observed(lambda: seen.append("begin"), lambda: seen.append("end")):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert seen == []
