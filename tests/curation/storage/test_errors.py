"""Answers that no store gives: web pages and damaged answers are repeated, never taken for objects."""

from __future__ import annotations

import random

import pytest
from broken_s3 import PAGE, BrokenS3, store_of
from services import Clock

from curation.core.errors import (
    LedgerError,
    NotFoundError,
)
from curation.ledger.documents import PlanDocument, read
from curation.storage.store import StoreOptions, open_store

DATA = random.Random(0).randbytes(300_001)


@pytest.mark.parametrize("trouble", ["page", "tagged page", "longer", "half", "reset"])
def test_one_wrong_answer_is_neither_an_object_nor_its_absence(server: BrokenS3, trouble: str) -> None:
    server.objects["/bucket/p/there"] = DATA
    store = store_of(server)
    etag = store.head("there").etag
    calls = [lambda: store.get_range("there", 0, len(DATA), etag), lambda: store.get_range("there", 0, len(DATA))]
    for call in [*calls, *([] if trouble == "longer" else [lambda: store.get("there")])]:
        first = iter([trouble])
        server.trouble = lambda method, path, first=first: next(first, "")
        assert call() == DATA
    first = iter([trouble])
    server.trouble = lambda method, path: next(first, "") if trouble == "page" else ""
    assert not store.exists("gone")
    with pytest.raises(NotFoundError):
        store.get("gone")


@pytest.mark.parametrize("trouble", ["flip", "page", "tagged page", "half"])
def test_a_damaged_answer_is_not_another_writers_object(server: BrokenS3, trouble: str) -> None:
    store = store_of(server)
    server.objects["/bucket/p/ours"] = b"ours"
    server.objects["/bucket/p/theirs"] = b"theirs"
    for key, mine in (("ours", True), ("theirs", False)):
        first = iter([trouble])
        server.trouble = lambda method, path, first=first: next(first, "") if method == "GET" else ""
        assert store.create(key, b"ours") is mine


def test_a_web_page_is_waited_out_but_not_for_ever(server: BrokenS3, clock: Clock) -> None:
    store, began = store_of(server), clock.now
    store.put("record", PAGE)
    with pytest.raises(LedgerError, match="not JSON"):
        read(store, "record", PlanDocument, "")
    assert 1 < clock.now - began < 10


@pytest.mark.s3
def test_a_stored_web_page_is_content(s3_url: str) -> None:
    """Real stores report it as `text/html`, from its bytes or its upload. An error page that was stored as a shard
    quarantines that shard, and must not be retried."""
    store = open_store(s3_url, StoreOptions(patience=5))
    store.put("90000.tar", PAGE)
    (info,) = store.list()
    assert store.get("90000.tar") == PAGE
    assert store.get_range("90000.tar", 2, 7, info.etag) == PAGE[2:9]
    assert b"".join(store.blocks("90000.tar", info.size, info.etag)) == PAGE
    assert store.stats.retries == 0
