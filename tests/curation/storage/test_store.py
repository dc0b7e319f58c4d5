"""The promises of every store: a disk, memory and a real S3 server."""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from services import one_line

from curation.core.errors import (
    ChangedError,
    NotFoundError,
    StoreError,
    UserError,
)
from curation.storage import object_store
from curation.storage import store as store_module
from curation.storage.fsspec_adapter import StoreFileSystem
from curation.storage.probe import probe
from curation.storage.store import Store, open_store

_names = itertools.count()
DATA = random.Random(0).randbytes(700_001)


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    if request.param == "memory":
        return open_store(f"memory://test{next(_names)}/some/prefix")
    return open_store(request.getfixturevalue("s3_url"))


def test_an_object_that_is_named_by_its_hash(store: Store) -> None:
    pieces = [b"", DATA[:1000], memoryview(DATA)[1000:]]
    sha = sha256(DATA).hexdigest()
    for _ in range(2):
        found = store.put_hashed(iter(pieces), lambda sha: f"data/{sha}.tar", "data")
        assert found == (f"data/{sha}.tar", sha, len(DATA)) and store.get(found[0]) == DATA
    assert [info.key for info in store.list()] == [f"data/{sha}.tar"] and not list(store.unfinished("data"))


def test_pieces_that_end_in_an_error_leave_nothing(store: Store) -> None:
    def pieces() -> Iterator[bytes]:
        yield DATA
        raise StoreError("the input is gone")

    store.put("data/other", b"")
    with pytest.raises(StoreError, match="the input is gone"):
        store.put_hashed(pieces(), lambda sha: f"data/{sha}", "data")
    assert [info.key for info in store.list()] == ["data/other"] and not list(store.unfinished("data"))


def test_put_get_head_list_delete(store: Store) -> None:
    began = int(time.time())  # some stores count whole seconds
    store.put("a/x.tar", b"hello")
    store.put("a/b/y z%20é#?.tar", b"")
    store.put("top", DATA)
    assert store.get("a/x.tar") == b"hello" and store.get("a/b/y z%20é#?.tar") == b"" and store.get("top") == DATA
    assert store.exists("top") and not store.exists("nothing") and not store.exists("a")
    listed = {info.key: info for info in store.list()}
    assert sorted(listed) == ["a/b/y z%20é#?.tar", "a/x.tar", "top"]
    assert listed["top"].size == len(DATA) and listed["top"] == store.head("top")
    ended = time.time()
    assert began - 1 <= listed["top"].modified <= ended + 1
    assert sorted(info.key for info in store.list("a")) == sorted(info.key for info in store.list("a/"))
    assert len(list(store.list("a"))) == 2 and not list(store.list("a/x")) and not list(store.list("none"))
    assert {info.size for info in store.list(etags=False)} == {0, 5, len(DATA)}
    store.delete("top")
    store.delete("top")
    assert not store.exists("top")
    assert store.stats.puts == 3 and store.stats.gets == 3 and store.stats.bytes_out == 5 + len(DATA)


def test_missing_objects(store: Store) -> None:
    store.put("there", b"1")
    for read in (store.get, store.head, lambda key: store.get_range(key, 0, 1)):
        with pytest.raises(NotFoundError) as caught:
            read("not/there")
        assert "not/there" in one_line(caught.value)


def test_put_replaces_and_create_does_not(store: Store) -> None:
    assert store.create("k", b"first")
    assert not store.create("k", b"other")
    assert store.get("k") == b"first"
    assert store.create("k", b"first")  # as after a lost answer
    store.put("k", b"second")
    assert store.get("k") == b"second"


def test_one_winner_of_sixteen(store: Store) -> None:
    for round_ in range(1 if store.url.startswith("s3") else 5):  # seaweedfs lets racers in one a second
        barrier = threading.Barrier(16)

        def race(i: int, key: str = f"race/{round_}", barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return store.create(key, b"by %d" % i)

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(race, range(16)))
        assert won.count(True) == 1
        assert store.get(f"race/{round_}") == b"by %d" % won.index(True)


def test_ranges_are_exact(store: Store) -> None:
    store.put("k", DATA)
    etag = store.head("k").etag
    for offset, length in ((0, 1), (0, len(DATA)), (511, 512), (len(DATA) - 1, 1), (3, 0)):
        assert store.get_range("k", offset, length, etag) == DATA[offset : offset + length]
    for offset, length in ((0, len(DATA) + 1), (len(DATA) - 1, 2), (len(DATA), 1), (len(DATA) + 9, 1)):
        with pytest.raises(StoreError) as caught:
            store.get_range("k", offset, length, etag)
        one_line(caught.value)


def test_a_changed_object_is_noticed(store: Store) -> None:
    store.put("k", DATA)
    etag = store.head("k").etag
    blocks = store.blocks("k", len(DATA), etag, block=100_000)
    unpinned = store.blocks("k", len(DATA), block=100_000)
    assert next(blocks) == next(unpinned) == DATA[:100_000]
    time.sleep(0.1)  # both have read ahead
    store.put("k", DATA[::-1])
    for rest in (blocks, unpinned):
        with pytest.raises(ChangedError) as caught:
            list(rest)
        one_line(caught.value)
    with pytest.raises(ChangedError):
        store.get_range("k", 0, 1, etag)


def test_blocks_are_the_object(store: Store) -> None:
    store.put("k", DATA)
    etag = store.head("k").etag
    for block in (1000_000, 700_001, 65_536):
        assert b"".join(store.blocks("k", len(DATA), etag, block=block)) == DATA
    assert b"".join(store.blocks("k", len(DATA), None, block=99_999, offset=12_345)) == DATA[12_345:]
    assert list(store.blocks("k", 0)) == []
    next(store.blocks("k", len(DATA), block=1000))  # a reader that stops early leaves nothing behind
    with pytest.raises(StoreError):
        list(store.blocks("k", len(DATA) + 1, etag))


@pytest.mark.parametrize("multipart", [False, True])
def test_put_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multipart: bool) -> None:
    data = DATA * 20  # 14 MB
    (tmp_path / "source").write_bytes(data)
    if multipart:
        monkeypatch.setattr(object_store, "MULTIPART", 6 << 20)
        monkeypatch.setattr(object_store, "PART", 5 << 20)
    store.put_file("big/k", tmp_path / "source")
    assert store.get("big/k") == data
    info = store.head("big/k")
    assert b"".join(store.blocks("big/k", info.size, info.etag)) == data
    if multipart and store.url.startswith("s3"):
        assert info.etag.endswith("-3")  # S3's mark of three parts
    with pytest.raises(FileNotFoundError):
        store.put_file("x", tmp_path / "no-source")


def test_probe_leaves_nothing(store: Store) -> None:
    probe(store)
    assert list(store.list()) == []
    puts = store.stats.creates
    probe(store)
    assert store.stats.creates == puts  # the answer is remembered


def test_pickled_stores_hold_no_secrets(store: Store) -> None:
    store.put("k", b"1")
    data = pickle.dumps(store)
    assert b"secret" not in data.lower()
    again = pickle.loads(data)  # noqa: S301  (ours)
    assert again.url == store.url and again.get("k") == b"1"
    assert "secret" not in repr(store).lower() and store.location("a/b") == f"{store.url}/a/b"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b"])
def test_odd_keys_are_refused(store: Store, key: str) -> None:
    for call in (store.get, store.head, store.delete, lambda key: store.create(key, b"")):
        with pytest.raises(UserError):
            call(key)


def test_fsspec_adapter(store: Store) -> None:
    store.put("a/k.bin", DATA)
    fs = pickle.loads(pickle.dumps(StoreFileSystem(store)))  # noqa: S301  (ours)
    with fs.open("a/k.bin", "rb") as file:
        file.seek(100)
        assert file.read(50) == DATA[100:150]
    assert fs.cat_file("a/k.bin") == DATA
    assert [Path(name).name for name in fs.ls("a", detail=False)] == ["k.bin"]
    with fs.open("a/out.bin", "wb") as file:
        file.write(b"written")
    assert store.get("a/out.bin") == b"written"


def test_many_objects_are_listed(store: Store) -> None:
    count = 200 if store.url.startswith("file") else 1100  # S3 lists 1,000 a page
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(f"d{i % 7}/{i}", b"%d" % i), range(count)))
    assert sorted(info.key for info in store.list()) == sorted(f"d{i % 7}/{i}" for i in range(count))


def test_importing_the_store_is_cheap() -> None:
    heavy = ("boto3", "obstore", "fsspec", "pyarrow", "sqlite3")
    code = f"import sys, curation.storage.store; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert store_module.__all__ == sorted(store_module.__all__)
