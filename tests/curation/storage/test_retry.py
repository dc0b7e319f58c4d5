"""One budget of seconds for a store that does not answer, for every call; reads are repeated."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from broken_s3 import BrokenS3, store_of
from services import Clock, S3Server, environment, one_line

from curation.core.errors import (
    AccessError,
    TutelageError,
    UnavailableError,
    UserError,
)
from curation.ledger.ledger import Ledger
from curation.ledger.named_objects import read_named
from curation.ledger.uid_lists import read_list
from curation.models.weights import Weights
from curation.storage import object_store
from curation.storage.parquet import read_parquet, to_parquet
from curation.storage.probe import probe
from curation.storage.store import Store, StoreOptions, open_store

DATA = random.Random(0).randbytes(300_001)


KEYS = [f"k{number:03d}" for number in range(95)]


def put_file(store: Store, path: Path) -> None:
    path.write_bytes(DATA)
    store.put_file("file", path)


CALLS: dict[str, Callable[[Store, Path], object]] = {
    "get": lambda store, path: store.get("there"),
    "range": lambda store, path: store.get_range("there", 5, 9),
    "blocks": lambda store, path: list(store.blocks("there", len(DATA))),
    "head": lambda store, path: store.head("there"),
    "size": lambda store, path: store.size("there"),
    "exists": lambda store, path: store.exists("there"),
    "list": lambda store, path: list(store.list()),
    "put": lambda store, path: store.put("new", DATA),
    "put_file": lambda store, path: put_file(store, path / "f"),
    "create": lambda store, path: store.create("new", DATA),
    "delete": lambda store, path: store.delete("there"),
    "probe": lambda store, path: probe(store),
}


@pytest.mark.parametrize("trouble", ["busy", "reset"])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_waits_as_long_as_it_is_told(
    server: BrokenS3, clock: Clock, tmp_path: Path, call: str, trouble: str
) -> None:
    server.objects["/bucket/p/there"] = DATA
    back = clock.now + 100
    server.trouble = lambda method, path: trouble if clock.now < back else ""
    CALLS[call](store_of(server), tmp_path)
    assert clock.now >= back
    assert 15 < len(server.requests) < 100  # the pauses grow


@pytest.mark.parametrize("call", CALLS)
def test_every_call_gives_up_when_its_patience_ends(server: BrokenS3, clock: Clock, tmp_path: Path, call: str) -> None:
    server.objects["/bucket/p/there"] = DATA
    server.trouble = lambda method, path: "busy"
    began = clock.now
    with pytest.raises(UnavailableError, match=r"answered 503.*\(tried \d+ times in 7 s\)") as caught:
        CALLS[call](store_of(server, patience=7), tmp_path)
    assert began + 7 <= clock.now < began + 8 + 7 * (call == "probe")  # its object is deleted with a budget of its own
    assert "store.patience" in one_line(caught.value) and caught.value.exit_code == 3


def test_progress_renews_the_budget(server: BrokenS3, clock: Clock) -> None:
    """A body that comes in pieces, with a minute of failures between any two, is read all the same."""
    server.defect, server.cut_at = "cuts", 300_000  # of which 256 KiB are kept
    server.objects["/bucket/p/there"] = DATA * 5
    up = itertools.cycle([True, *[False] * 15])
    server.trouble = lambda method, path: "" if next(up) else "busy"
    began = clock.now
    assert store_of(server).get("there") == DATA * 5
    assert clock.now > began + 180


def test_seconds_of_the_consumer_do_not_count(server: BrokenS3, clock: Clock) -> None:
    server.page = 10
    server.objects = {f"/bucket/p/{key}": b"1" for key in KEYS}
    turns = itertools.count()
    server.trouble = lambda method, path: "busy" if next(turns) % 2 else ""
    found = []
    for info in store_of(server, patience=20).list():
        clock.sleep(600)
        found.append(info.key)
    assert found == KEYS


def test_a_part_of_an_upload_that_fails_for_long_ends_it(
    server: BrokenS3, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "MULTIPART", 100_000)
    server.trouble = lambda method, path: "denied" if "upload" in path else ""
    with pytest.raises(AccessError):
        put_file(store_of(server), tmp_path / "f")


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), 1e9, True])
def test_patience_is_a_number_of_seconds(patience: float) -> None:
    with pytest.raises(UserError, match=r"store\.patience"):
        StoreOptions(patience=patience)


@pytest.mark.s3
def test_a_real_store_that_is_stopped_and_started(tmp_path: Path, fresh_clients: None) -> None:
    with S3Server() as server, environment(server.env):
        store = open_store("s3://tutelage/p")
        for key in KEYS[:12]:
            store.put(key, DATA)
        listing = store.list()
        assert next(listing).key == KEYS[0]
        server.restart()
        assert [info.key for info in listing] == KEYS[1:12]
        assert store.get(KEYS[3]) == DATA and not store.create(KEYS[4], b"other") and store.create("new", b"1")


def _readers(store: Store) -> dict[str, Callable[[], object]]:
    table = pa.table({"uid": ["a" * 32] * 9})
    store.put("named", DATA)
    store.put("table", to_parquet(table, checksums=True))
    store.put("list", b"a" * 32)
    ledger = Ledger(store)
    plan = ledger.plan(
        iter(pa.table({"key": ["k"], "size": [1], "etag": ["e"]}).to_batches()),
        {"corpus": {"root": "/c", "patterns": ["*"]}, "fingerprints": {}},
    )
    weights = Weights(store.location("named"), sha256(DATA).hexdigest())

    def fetched() -> bytes:
        data = weights.fetch(store.options).read_bytes()
        weights.fetch(store.options).unlink()
        return data

    return {
        "named": lambda: read_named(store, "named", sha256(DATA).hexdigest(), "") == DATA,
        "table": lambda: read_parquet(store, "table", "") == table,
        "list": lambda: read_list("keep", store.location("list"), store.options).uids.to_pylist() == ["a" * 32],
        "plan": lambda: ledger.open_plan(plan.id).id == plan.id,
        "page": lambda: plan.page(0)[0].key == "k",
        "weights": lambda: fetched() == DATA,
    }


@pytest.mark.parametrize("name", ["named", "table", "list", "plan", "page", "weights"])
@pytest.mark.parametrize("trouble", ["flip", "page", "tagged page", "half"])
def test_one_bad_read_is_not_damage(server: BrokenS3, name: str, trouble: str) -> None:
    read = _readers(store_of(server))[name]
    first = iter([trouble])
    server.trouble = lambda method, path: next(first, "") if method == "GET" else ""
    assert read()
    server.trouble = lambda method, path: "flip" if method == "GET" else ""
    before = len(server.requests)
    with pytest.raises(TutelageError) as caught:
        read()
    one_line(caught.value)
    assert len(server.requests) - before <= 4
