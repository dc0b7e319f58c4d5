"""Clients of S3: buckets, credentials, profiles, and processes that were forked."""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import pytest
from broken_s3 import BrokenS3, store_of
from services import Clock, one_line

from curation.core.errors import (
    AccessError,
    BucketError,
    StoreError,
)
from curation.storage import clients as store_clients
from curation.storage.probe import probe
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(300_001)


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize("trouble", ["denied", "expired"])
def test_credentials_that_expire_are_renewed_once(
    server: BrokenS3, clock: Clock, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(store_clients, "time", clock)
    server.objects["/bucket/p/there"] = DATA
    left = [trouble]
    server.trouble = lambda method, path: left.pop() if left else ""
    with pytest.raises(AccessError):  # of keys without an end nothing else is to be had
        store_of(server).get("there")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    store_clients._CLIENTS.clear()
    store = store_of(server)
    assert store.get("there") == DATA
    for age, raises in ((1, True), (100, False)):
        clock.sleep(age)
        left = [trouble]
        if raises:  # a minute after they were made, they are what they are
            with pytest.raises(AccessError):
                store.get("there")
        else:
            assert store.get("there") == DATA
    left = [trouble, trouble]
    with pytest.raises(AccessError):
        store.get("there")


@pytest.mark.s3
def test_missing_bucket(s3: object) -> None:
    store = open_store("s3://no-such-bucket/x")
    calls = (lambda: list(store.list()), lambda: store.get("k"), lambda: store.head("k"), lambda: probe(store))
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
    calls = (lambda: list(store.list()), lambda: store.get("k"), lambda: store.head("k"), lambda: probe(store))
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


def _use_after_fork(url: str, endpoint: str, queue: multiprocessing.Queue[str]) -> None:
    try:
        queue.put(str(open_store(url, StoreOptions(endpoint=endpoint)).get("k")))
    except StoreError as error:
        queue.put(f"{error} | {error.fix}")


@pytest.mark.slow
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
