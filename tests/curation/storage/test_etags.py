"""Etags of local files: of the content, cached, and never wrong."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from hashlib import md5
from pathlib import Path

import pytest

from curation.core.errors import (
    ChangedError,
)
from curation.storage import etags
from curation.storage.store import open_store

DATA = random.Random(0).randbytes(700_001)


def test_local_etags_are_of_the_content(tmp_path: Path) -> None:
    first = open_store(tmp_path.joinpath("first").as_uri())
    for i in range(20):
        first.put(f"d/{i}", DATA[i:])
    shutil.copytree(tmp_path / "first", tmp_path / "second")  # new inodes and times
    second = open_store(str(tmp_path / "second"))
    one, two = ({info.key: info.etag for info in store.list()} for store in (first, second))
    assert one == two and one["d/3"] == md5(DATA[3:]).hexdigest()


@pytest.mark.s3
def test_local_and_s3_etags_are_equal(tmp_path: Path, s3_url: str) -> None:
    local, remote = open_store(str(tmp_path)), open_store(s3_url)
    for store in (local, remote):
        store.put("k", DATA)
    assert local.head("k").etag == remote.head("k").etag


def test_an_edit_that_restores_size_and_mtime_is_noticed(tmp_path: Path) -> None:
    store, path = open_store(str(tmp_path)), tmp_path / "k"
    path.write_bytes(b"a" * 1000)
    time.sleep(0.12)  # settled, so that the etag is remembered
    before, stat = store.head("k").etag, path.stat()
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and path.stat().st_mtime_ns == stat.st_mtime_ns
    assert store.head("k").etag == md5(b"b" + b"a" * 999).hexdigest() != before
    with pytest.raises(ChangedError):
        store.get_range("k", 500, 10, before)


def test_rewrites_within_one_clock_tick_are_noticed(tmp_path: Path) -> None:
    store, path = open_store(str(tmp_path)), tmp_path / "k"
    path.write_bytes(b"0000")
    for i in range(300):
        with path.open("r+b") as file:
            file.write(b"%04d" % i)
        assert store.head("k").etag == md5(b"%04d" % i).hexdigest()


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    reads: list[int] = []
    real = os.pread
    monkeypatch.setattr(etags.os, "pread", lambda *args: reads.append(1) or real(*args))  # type: ignore[func-returns-value]
    return reads


def test_etags_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "store"))
    for i in range(5):
        store.put(str(i), b"%d" % i)
    time.sleep(0.12)
    first = sorted(store.list())
    monkeypatch.setattr(etags, "CACHE", etags.EtagCache())  # as another process would
    reads = _count_reads(monkeypatch)
    assert sorted(store.list()) == first and not reads


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped", "directory", "locked", "unwritable"])
def test_a_useless_cache_is_only_slow(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(etags, "CACHE", etags.EtagCache())
    store = open_store(str(tmp_path / "store"))
    contents = {str(i): b"%d" % i for i in range(200)}
    for key, data in contents.items():
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / key).write_bytes(data)
    time.sleep(0.12)
    wanted = {key: md5(data).hexdigest() for key, data in contents.items()}
    assert {info.key: info.etag for info in store.list()} == wanted
    database = tmp_path / "cache" / "tutelage" / "etags.sqlite"
    data = database.read_bytes()
    other = None
    if damage == "garbage":
        database.write_bytes(os.urandom(5000))
    elif damage == "truncated":
        database.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        noise = bytearray(data)
        for position in random.Random(1).sample(range(4096, len(noise)), 300):
            noise[position] ^= 1 << position % 8
        database.write_bytes(noise)
    elif damage == "locked":
        import sqlite3

        other = sqlite3.connect(database)
        other.execute("BEGIN EXCLUSIVE")
        contents = {key: contents[key] for key in ("1", "2")}
        for key in wanted.keys() - contents.keys():
            (tmp_path / "store" / key).unlink()
    else:
        database.unlink()
        database.mkdir()
        if damage == "unwritable":
            database.rmdir()
            database.parent.rmdir()
            database.parent.write_bytes(b"a file where the directory should be")
    monkeypatch.setattr(etags, "CACHE", etags.EtagCache())
    assert {info.key: info.etag for info in store.list()} == {key: wanted[key] for key in contents}
    if other is not None:
        other.close()


def _head_forever(url: str, key: str, count: int, queue: multiprocessing.Queue[object]) -> None:
    store = open_store(url)
    queue.put([store.head(key).etag for _ in range(count)])


@pytest.mark.slow
def test_many_processes_share_the_cache(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("k", DATA)
    time.sleep(0.12)
    wanted = store.head("k").etag  # a connection is open when the children are forked
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[object] = context.Queue()
    children = [context.Process(target=_head_forever, args=(store.url, "k", 50, queue)) for _ in range(4)]
    for child in children:
        child.start()
    assert all(queue.get(timeout=300) == [wanted] * 50 for _ in children)
    for child in children:
        child.join()
