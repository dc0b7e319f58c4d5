"""Which URLs, endpoints and keys are ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from services import one_line

from curation.core.errors import UserError
from curation.storage.store import open_object, open_store
from curation.storage.urls import absolute_url


@pytest.mark.parametrize(
    "url",
    [
        *("pipe:curl http://x", "http://x/y", "https://x/y", "ftp://x", "hdfs://x/y", "file://host/x", "s3://", ""),
        *("s3:///x", "s3://key:secret@bucket/x", "gs://a@b/c", "s3://b/../c", "javascript:1", "a\0b", "file:relative"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UserError) as caught:
        open_store(url)
    one_line(caught.value)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("s3://b", "s3://b"),
        ("s3a://b/p/q/", "s3://b/p/q"),
        ("gs://b/p", "gs://b/p"),
        ("abfs://c/p", "az://c/p"),
        ("abfss://c@account.dfs.core.windows.net/p", "abfs://c@account/p"),
        ("memory://n/p", "memory://n/p"),
        ("file:///a/b/../c/", "file:///a/c"),
        ("/a/b", "file:///a/b"),
        ("//a/b", "file:///a/b"),
    ],
)
def test_urls_are_normalised(url: str, normal: str) -> None:
    assert open_store(url).url == normal
    assert open_store(open_store(url).url).url == normal


def test_relative_paths_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_store("a/b").url == f"file://{tmp_path}/a/b"
    assert open_store("~/a").url == f"file://{tmp_path}/home/a"


def test_open_object(tmp_path: Path) -> None:
    store, key = open_object(str(tmp_path / "a" / "b.bin"))
    assert (store.url, key) == (f"file://{tmp_path}/a", "b.bin")
    store, key = open_object("s3://bucket/w.bin")
    assert (store.url, key) == ("s3://bucket", "w.bin")
    with pytest.raises(UserError):
        open_object("s3://bucket")


@pytest.mark.parametrize("account", ["evil#", "evil:80", "e@x", "UPPER", "a-b", "a?b"])
def test_accounts_are_no_hosts(account: str) -> None:
    with pytest.raises(UserError) as caught:
        open_store(f"abfs://c@{account}/p")
    one_line(caught.value)


def test_a_path_means_the_same_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker of a cluster that runs already has another working directory."""
    monkeypatch.chdir(tmp_path)
    assert absolute_url("pool/{000..012}.tar") == f"{tmp_path}/pool/{{000..012}}.tar"
    assert absolute_url("out@7") == f"{tmp_path}/out@7"
    for url in ("s3://bucket/pool", "file:///data/pool", "/data/*.tar"):
        assert absolute_url(url) == url
