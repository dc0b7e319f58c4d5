"""Listings of a store that fails: every key once."""

from __future__ import annotations

import itertools
import random
import threading

import pytest
from broken_s3 import BrokenS3, store_of
from services import Clock, one_line

from curation.core.errors import (
    UnavailableError,
)
from curation.storage import object_store

KEYS = [f"k{number:03d}" for number in range(95)]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["sorted", "folders first", "random"])
@pytest.mark.parametrize("trouble", ["busy", "reset", "half", "page", "xhtml", "tagged page"])
@pytest.mark.parametrize("seed", range(2))
def test_a_listing_gives_every_key_once(
    server: BrokenS3, trouble: str, order: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    ranks = {"sorted": lambda key: key, "folders first": lambda key: ("/" not in key[2:], key),
             "random": lambda key: random.Random(key).random()}  # fmt: skip
    names = [*KEYS, *(f"{key}/{part}" for key in KEYS[::9] for part in "ab")]
    server.objects = {f"/bucket/p/{key}": b"1" for key in names}
    server.page, server.order = 7, lambda keys: sorted(keys, key=ranks[order])
    server.trouble = lambda method, path: trouble if chance.random() < 0.15 else ""
    found = [info.key for info in store_of(server).list()]
    assert sorted(found) == sorted(names)


def test_the_last_key_may_go_while_it_is_listed(server: BrokenS3) -> None:
    """Like `curate gc`, which deletes while it lists."""
    server.page = 5
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    turns = itertools.count()
    server.trouble = lambda method, path: "reset" if next(turns) % 3 == 2 else ""
    found = []
    for info in store_of(server).list():
        found.append(info.key)
        del server.objects[f"/bucket/p/{info.key}"]
    assert found == KEYS


def test_a_page_instead_of_a_listing_is_not_an_empty_one(server: BrokenS3, clock: Clock) -> None:
    server.objects["/bucket/p/there"] = b"1"
    for trouble in ("page", "xhtml"):
        pages = iter([trouble])
        server.trouble = lambda method, path, pages=pages: next(pages, "")
        assert [info.key for info in store_of(server).list()] == ["there"]
    server.trouble = lambda method, path: "page"
    with pytest.raises(UnavailableError, match="does not come from an object store") as caught:
        list(store_of(server).list())
    one_line(caught.value)


def test_an_empty_listing_costs_two_requests_and_a_full_one_one_more(server: BrokenS3) -> None:
    assert list(store_of(server).list()) == [] and len(server.requests) == 2
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    server.page = 10
    list(store_of(server).list())
    assert len(server.requests) == 2 + 10 + 1


def test_a_listing_that_obstore_loses_is_started_again(server: BrokenS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen with obstore 0.12: no request was under way, so no deadline ended the wait."""
    import obstore

    lost, listed = [threading.Event()], obstore.list

    def listing(*args: object, **options: object) -> object:
        if not lost:
            return listed(*args, **options)
        event = lost.pop()
        return iter(lambda: event.wait(600), True)

    server.objects["/bucket/p/there"] = b"1"
    monkeypatch.setattr(object_store, "LOST", 0.1)
    monkeypatch.setattr(obstore, "list", listing)
    store = store_of(server)
    assert [info.key for info in store.list()] == ["there"] and store.stats.retries >= 1
