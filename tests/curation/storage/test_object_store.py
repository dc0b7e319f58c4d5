"""An object store whose S3 answers wrongly, slowly, from far away, or without safe commits."""

from __future__ import annotations

import random
import socket
import time

import pytest
from broken_s3 import BrokenS3
from services import Clock, one_line

from curation.core.errors import (
    ChangedError,
    StoreError,
)
from curation.storage import clients as store_clients
from curation.storage import retry
from curation.storage.probe import probe
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(700_001)


@pytest.mark.parametrize("broken", [""], indirect=True)
def test_the_fake_without_a_defect_is_a_store(broken: tuple[BrokenS3, Store]) -> None:
    probe(broken[1])


@pytest.mark.parametrize("broken", ["busy"], indirect=True)
def test_busy_stores_are_asked_again(broken: tuple[BrokenS3, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "time", Clock())
    store = broken[1]
    assert store.create("k", b"1") and store.get("k") == b"1" and store.exists("k")
    store.put("k", b"2")
    assert not store.create("k", b"3")
    assert store.stats.retries >= 6
    impatient = open_store(store.url, StoreOptions(endpoint=broken[0].endpoint, patience=0))
    with pytest.raises(StoreError, match="503 SlowDown") as caught:
        impatient.get("other")
    one_line(caught.value)


@pytest.mark.parametrize("broken", ["blind"], indirect=True)
def test_a_store_that_ignores_if_match(broken: tuple[BrokenS3, Store]) -> None:
    store = broken[1]
    store.put("k", DATA)
    blocks = store.blocks("k", len(DATA), store.head("k").etag, block=100_000)
    next(blocks)
    time.sleep(0.1)
    store.put("k", DATA[::-1])
    with pytest.raises(ChangedError):
        list(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "silent", "unknown-host"])
def test_unreachable_endpoints_fail_in_bounded_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr(store_clients, "_READ", 1)
    with BrokenS3("silent") as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        endpoint = {
            "refused": f"http://127.0.0.1:{port}",
            "silent": server.endpoint,
            "unknown-host": "http://no.invalid",
        }
        store = open_store("s3://bucket", StoreOptions(endpoint=endpoint[kind], patience=0.5))
        for call in (lambda: store.get("k"), lambda: list(store.list()), lambda: store.create("k", b"1")):
            with pytest.raises(StoreError, match=r"reached|answer") as caught:
                call()
            assert endpoint[kind] in one_line(caught.value)
