"""Directories as stores: listings, links, kills, full disks, stale handles."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from services import Clock, one_line

from curation.core.errors import (
    BucketError,
    NotFoundError,
    StoreError,
    UnavailableError,
    UnsafeStoreError,
)
from curation.storage import local_files, local_store
from curation.storage.probe import probe
from curation.storage.store import open_store


def test_directories_are_listed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.tar").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.tar").write_bytes(b"2")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "deep" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / f"{local_files.TEMPORARY}0").write_bytes(b"left by a killed put")
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
from curation.storage.probe import probe
from curation.storage.store import open_store
store, data = open_store(sys.argv[1]), b"x" * 3_000_000
print("go", flush=True)
for i in range(100000):
    store.create(f"c/{i}", data)
    store.put("p", data)
    print(i, flush=True)
"""


@pytest.mark.slow
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

    monkeypatch.setattr(os, "link", refused)  # a file system without hard links
    with pytest.raises(UnsafeStoreError) as unsafe:
        probe(store)
    one_line(unsafe.value)


def test_reading_what_is_just_being_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a create's `link` and its `unlink` the ctime changes, not the bytes: the second process looks again."""
    store = open_store(str(tmp_path))
    store.create("record", b"bytes")
    pread, times = local_store.read_pieces, []

    def while_the_temporary_name_goes(*arguments: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            time.sleep(0.02)  # more than the file system's clock tick
            (tmp_path / "temporary").hardlink_to(tmp_path / "record")
            (tmp_path / "temporary").unlink()
        return pread(*arguments)

    monkeypatch.setattr(local_store, "read_pieces", while_the_temporary_name_goes)
    assert store.create("record", b"others") is False
    assert len(times) == 3  # once more, as other bytes are believed when they are read twice


KEYS = [f"k{number:03d}" for number in range(95)]


def test_a_disk_that_is_away_for_a_while(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a directory of NFS: stale handles in the middle of a listing and of a read."""
    store = open_store(str(tmp_path))
    for key in KEYS:
        store.put(f"{key[:3]}/{key}", key.encode())
    chance, scan, read = random.Random(1), local_store.os.scandir, local_store.os.open

    def shaky(call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if chance.random() < 0.05:
                raise OSError(errno.ESTALE, "Stale file handle")
            return call(*arguments)

        return called

    left = [f"{key[:3]}/{local_files.TEMPORARY}{key}" for key in KEYS]
    for name in left:
        (tmp_path / name).write_bytes(b"left by a killed put")
    monkeypatch.setattr(local_store.os, "scandir", shaky(scan))
    monkeypatch.setattr(local_store.os, "open", shaky(read))
    for etags in (True, False):
        assert [info.key for info in store.list(etags=etags)] == [f"{key[:3]}/{key}" for key in KEYS]
    assert [info.key for info in store.unfinished()] == left
    assert [store.get(f"{key[:3]}/{key}") for key in KEYS] == [key.encode() for key in KEYS]
    chance.random = lambda: 0.0  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="Stale file handle") as caught:
        store.get("k00/k000")
    one_line(caught.value)
