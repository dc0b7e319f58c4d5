"""Results in order, and how many there are before anybody takes them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from curation.core import parallel
from curation.core.parallel import map_ordered
from curation.storage.store import Store, open_store


def most_ahead(size: int, items: int = 60) -> int:
    """The most results of `size` bytes that were begun and not yet taken."""
    begun: list[int] = []
    most = 0

    def work(item: int) -> int:
        begun.append(item)
        return item

    for taken, item in enumerate(map_ordered(work, range(items), threads=4, weigh=lambda _: size)):
        assert item == taken
        time.sleep(0.001)
        most = max(most, len(begun) - taken)
    return most


def test_fewer_are_ahead_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "AHEAD", 1000)
    assert most_ahead(5000) == 2, "one comes while the other is used"
    assert most_ahead(300) == 3
    assert most_ahead(0) == most_ahead(1) == 8


def test_one_that_is_larger_than_those_before_makes_it_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "AHEAD", 1000)
    begun: list[int] = []
    sizes = [10] * 20 + [500] * 20

    def work(item: int) -> int:
        begun.append(item)
        return sizes[item]

    taken = [(size, len(begun)) for size in map_ordered(work, range(40), threads=4, weigh=int)]
    assert [size for size, _ in taken] == sizes
    ahead = [started - number for number, (_, started) in enumerate(taken)]
    assert max(ahead[:20]) == 8 and max(ahead[22:]) <= 8 and max(ahead[30:]) == 2


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_ordered(lambda item: 1 // item, [1, 0, 2], weigh=lambda _: 1))


@pytest.mark.parametrize("what", ["map_ordered", "blocks"])
def test_a_generator_that_is_left_does_not_wait_for_its_threads(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may close it in a thread that holds the lock that joining wants: seen in a run of tests."""
    go_on, started = threading.Event(), threading.Event()

    def slow(item: int) -> int:
        if item:
            started.set()
            go_on.wait(300)
        return item

    def read(self: Store, key: str, offset: int, length: int | None, etag: str | None) -> tuple[bytes, str]:
        slow(offset)
        return b"x", "e"

    monkeypatch.setattr(Store, "_read", read)
    left = map_ordered(slow, range(4), threads=2) if what == "map_ordered" else None
    left = left or open_store(str(tmp_path)).blocks("a", 4, "e", block=1)
    assert next(left) in (0, b"x") and started.wait(60)
    closing = threading.Thread(target=left.close)  # type: ignore[attr-defined]
    closing.start()
    try:
        closing.join(60)
        assert not closing.is_alive()
    finally:
        go_on.set()
