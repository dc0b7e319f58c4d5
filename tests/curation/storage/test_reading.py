"""Reads and puts whose answers are cut or lost."""

from __future__ import annotations

import random
from hashlib import md5

import pytest
from broken_s3 import BrokenS3
from services import one_line

from curation.core.errors import (
    StoreError,
)
from curation.storage.probe import probe
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(700_001)


@pytest.mark.parametrize("broken", ["loses"], indirect=True)
def test_lost_answers_are_settled_by_reading_back(broken: tuple[BrokenS3, Store]) -> None:
    server, store = broken
    assert store.create("k", b"mine") and store.get("k") == b"mine"
    server.objects["/bucket/p/j"] = b"theirs"
    assert not store.create("j", b"mine") and store.get("j") == b"theirs"
    store.put("l", b"put")
    assert store.get("l") == b"put"
    probe(store)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["cuts"], indirect=True)
def test_cut_bodies_are_resumed(broken: tuple[BrokenS3, Store]) -> None:
    server, store = broken
    server.cut_at = 300_000
    server.objects["/bucket/p/k"] = DATA * 4
    etag = md5(DATA * 4).hexdigest()
    assert store.get("k") == DATA * 4
    assert store.get_range("k", 1000, 2_000_000, etag) == (DATA * 4)[1000:2_001_000]
    assert store.stats.retries >= 15
    server.cut_at = 0
    with pytest.raises(StoreError) as caught:
        open_store(store.url, StoreOptions(endpoint=server.endpoint, patience=0.5)).get("k")
    one_line(caught.value)
