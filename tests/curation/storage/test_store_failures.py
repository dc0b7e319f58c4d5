"""What a store does when S3 is wrong, slow, far away or not safe to commit to."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import time
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pytest
from services import BrokenS3, Clock, one_line

from curation.core.errors import (
    AccessError,
    BucketError,
    ChangedError,
    StoreError,
    UnsafeStoreError,
)
from curation.storage import clients as store_clients
from curation.storage import retry
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(700_001)


@pytest.mark.s3
def test_missing_bucket(s3: object) -> None:
    store = open_store("s3://no-such-bucket/x")
    calls = (lambda: list(store.list()), lambda: store.get("k"), lambda: store.head("k"), store.probe)
    for call in calls:
        with pytest.raises(BucketError) as caught:
            call()
        assert "bucket no-such-bucket does not exist at http://127.0.0.1" in one_line(caught.value)


@pytest.mark.s3
@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials(s3_url: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "not-the-secret")
    store = open_store(s3_url)
    calls = (lambda: list(store.list()), lambda: store.get("k"), lambda: store.head("k"), store.probe)
    for call in (*calls, lambda: store.create("k", b"1"), lambda: store.put("k", b"1")):
        with pytest.raises(AccessError) as caught:
            call()
        assert "credentials" in one_line(caught.value)


@pytest.mark.s3
@pytest.mark.usefixtures("fresh_clients")
def test_no_credentials_and_unknown_profile(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AccessError, match="nobody"):
        open_store(s3_url, StoreOptions(profile="nobody")).get("k")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessError, match="no AWS credentials were found") as caught:
        open_store(s3_url).get("k")
    one_line(caught.value)


@pytest.mark.s3
@pytest.mark.usefixtures("fresh_clients")
def test_a_profile_with_everything(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services import ACCESS_KEY, SECRET_KEY

    text = f"[profile lab]\nregion = eu-central-1\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
    text += f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (tmp_path / "config").write_text(text)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = open_store(s3_url, StoreOptions(profile="lab"))
    assert store.create("k", b"1") and store.get("k") == b"1"


@pytest.fixture
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BrokenS3, Store]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with BrokenS3(request.param) as server:
        yield server, open_store("s3://bucket/p", StoreOptions(endpoint=server.endpoint, patience=5))


@pytest.mark.parametrize("broken", ["ignores", "refuses", "replaces"], indirect=True)
def test_unsafe_stores_are_refused(broken: tuple[BrokenS3, Store]) -> None:
    server, store = broken
    with pytest.raises(UnsafeStoreError) as caught:
        store.probe()
    text = one_line(caught.value)
    assert "s3://bucket/p" in text and "create-only" in text and "If-None-Match" in text
    assert not server.objects
    with pytest.raises(UnsafeStoreError):  # only good answers are remembered
        store.probe()


@pytest.mark.parametrize("broken", [""], indirect=True)
def test_the_fake_without_a_defect_is_a_store(broken: tuple[BrokenS3, Store]) -> None:
    broken[1].probe()


@pytest.mark.parametrize("broken", ["loses"], indirect=True)
def test_lost_answers_are_settled_by_reading_back(broken: tuple[BrokenS3, Store]) -> None:
    server, store = broken
    assert store.create("k", b"mine") and store.get("k") == b"mine"
    server.objects["/bucket/p/j"] = b"theirs"
    assert not store.create("j", b"mine") and store.get("j") == b"theirs"
    store.put("l", b"put")
    assert store.get("l") == b"put"
    store.probe()


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


def _use_after_fork(url: str, endpoint: str, queue: multiprocessing.Queue[str]) -> None:
    try:
        queue.put(str(open_store(url, StoreOptions(endpoint=endpoint)).get("k")))
    except StoreError as error:
        queue.put(f"{error} | {error.fix}")


@pytest.mark.parametrize("broken", [""], indirect=True)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_use_after_fork_says_so_instead_of_hanging(broken: tuple[BrokenS3, Store], method: str) -> None:
    server, store = broken
    store.put("k", b"1")
    context = multiprocessing.get_context(method)
    queue: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_use_after_fork, args=(store.url, server.endpoint, queue))
    child.start()
    answer = queue.get(timeout=300)
    child.join()
    assert "forked" in answer and "spawn" in answer if method == "fork" else answer == "b'1'"
