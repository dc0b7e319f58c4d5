"""Directories as stores: etags that survive a copy, kills, links, full disks."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from services import one_line

from curation.core.errors import (
    BucketError,
    ChangedError,
    NotFoundError,
    StoreError,
    UnsafeStoreError,
)
from curation.storage import etags, local_store
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


def test_directories_are_listed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.tar").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.tar").write_bytes(b"2")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "deep" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / f"{local_store._TEMPORARY}0").write_bytes(b"left by a killed put")
    os.mkfifo(tmp_path / "data" / "pipe")
    store = open_store(str(tmp_path / "data"))
    assert sorted(info.key for info in store.list()) == ["deep/a.tar", "linked/b.tar"]
    with pytest.raises(NotFoundError):
        store.get("pipe")
    with pytest.raises(NotFoundError):
        store.get("deep")
    (tmp_path / "data" / "broken").symlink_to("nowhere")
    with pytest.raises(StoreError, match="broken link"):
        list(store.list())
    (tmp_path / "data" / "broken").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xff.tar")).write_bytes(b"")
    with pytest.raises(StoreError, match="not UTF-8"):
        list(store.list())


def test_missing_directory(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "nowhere"))
    with pytest.raises(BucketError) as caught:
        list(store.list())
    assert "nowhere does not exist" in one_line(caught.value)
    assert not store.exists("k")
    with pytest.raises(NotFoundError):
        store.get("k")


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("a", b"1")
    store.put("d/b", b"1")
    for call in (store.put, store.create):
        for key in ("a/b", "d"):
            with pytest.raises(StoreError) as caught:
                call(key, b"2")
            one_line(caught.value)


_KILLED = """
import sys
from curation.storage.store import open_store
store, data = open_store(sys.argv[1]), b"x" * 3_000_000
print("go", flush=True)
for i in range(100000):
    store.create(f"c/{i}", data)
    store.put("p", data)
    print(i, flush=True)
"""


def test_kill_leaves_no_partial_object(tmp_path: Path) -> None:
    done = 0
    for round_ in range(6):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "go\n"
        for _ in range(round_):
            child.stdout.readline()
        time.sleep(0.003 * round_)
        child.send_signal(signal.SIGKILL)
        finished = [*range(round_), *(int(line) for line in child.stdout.read().split())]
        child.wait()
        infos = {info.key: info.size for info in open_store(str(tmp_path)).list()}
        assert set(infos.values()) <= {3_000_000}
        assert all(f"c/{i}" in infos for i in finished)
        done += len(finished)
    assert done >= 15


def test_disk_full_and_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local_store.os, "fsync", full)
        with pytest.raises(StoreError, match="no space left") as caught:
            store.create("k", b"1")
    one_line(caught.value)
    assert list(tmp_path.iterdir()) == []

    def refused(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(local_store.os, "link", refused)  # a file system without hard links
    with pytest.raises(UnsafeStoreError) as unsafe:
        store.probe()
    one_line(unsafe.value)


def test_reading_what_is_just_being_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a create's `link` and its `unlink` the ctime changes, not the bytes: whoever came second looks again."""
    store = open_store(str(tmp_path))
    store.create("record", b"bytes")
    pread, times = local_store._pread, []

    def while_the_temporary_name_goes(*arguments: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            time.sleep(0.02)  # more than the file system's clock tick
            (tmp_path / "temporary").hardlink_to(tmp_path / "record")
            (tmp_path / "temporary").unlink()
        return pread(*arguments)

    monkeypatch.setattr(local_store, "_pread", while_the_temporary_name_goes)
    assert store.create("record", b"others") is False
    assert len(times) == 3  # once more, as other bytes are believed when they are read twice
