"""`gc` finds data that no record names and half-written files of killed processes: nothing else, nothing young."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from builders import score_record, snapshot_document

from curation.core.digest import canonical
from curation.core.errors import LedgerError, LostSnapshotError, UserError
from curation.curating import garbage
from curation.curating.garbage import MIN_GRACE, Garbage, parse_duration, sweep
from curation.dataset.snapshot import PARTS_SCHEMA, SHARDS_SCHEMA
from curation.ledger.documents import ScoreRecord
from curation.ledger.ledger import Ledger
from curation.ledger.snapshot_keys import snapshot_number
from curation.storage import tables
from curation.storage.parquet import to_parquet
from curation.storage.store import Store, open_store

connect = duckdb.connect
KILLED = """
import os, sys
from curation.storage import local_store
from curation.storage.store import open_store
local_store.os.replace = lambda *_: os._exit(9)  # dies between the last byte and the name
open_store(sys.argv[1]).put("data/half.parquet", b"1234")
"""


class _Counting:
    """A connection that tells what it is asked."""

    def __init__(self, db: Any, asked: list[str]) -> None:
        self.db, self.asked = db, asked

    def execute(self, query: str, *rest: Any) -> Any:
        self.asked.append(query)
        return self.db.execute(query, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def __enter__(self) -> _Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(open_store(str(tmp_path / "out")))
    item = ledger.put_data("aa", b"named", "bin")
    ledger.commit("aa", score_record(data=item.to_json()), ScoreRecord)
    return ledger


def later(*ledgers: Ledger, delete: bool) -> list[Garbage]:
    """A sweep two hours from now, with the shortest grace."""
    return sweep(ledgers, grace=MIN_GRACE, delete=delete, now=time.time() + 7200)


def test_unnamed_and_half_written_objects_are_found_and_deleted_when_told(ledger: Ledger, tmp_path: Path) -> None:
    unnamed = ledger.put_data("bb", b"beaten", "bin")
    assert subprocess.run([sys.executable, "-c", KILLED, ledger.store.url], check=False).returncode == 9
    found = later(ledger, delete=False)
    assert sorted(item.bytes for item in found) == [4, 6]
    assert later(ledger, delete=True) == found
    assert later(ledger, delete=True) == []
    assert not ledger.store.exists(unnamed.key)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(
        ["aa.json", *(Path(item.key).name for item in ledger.store.list("data"))]
    )


def test_young_objects_are_spared(ledger: Ledger, tmp_path: Path) -> None:
    unnamed = ledger.put_data("bb", b"about to be named", "bin")
    assert sweep([ledger], grace=MIN_GRACE, delete=True) == []
    past = time.time() - MIN_GRACE - 1
    os.utime(tmp_path / "out" / unnamed.key, (past, past))
    assert len(sweep([ledger], grace=MIN_GRACE, delete=True)) == 1


def test_a_clock_that_is_ahead_makes_nothing_old(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    unnamed, now = ledger.put_data("bb", b"about to be named", "bin"), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7 * 86_400)
    assert sweep([ledger], grace=MIN_GRACE, delete=True) == [] and ledger.store.exists(unnamed.key)
    assert not [item for item in ledger.store.list() if "probe" in item.key]


@pytest.mark.parametrize("grace", [0, -1, 59 * 60])
def test_a_grace_in_which_no_worker_gets_done_is_refused(ledger: Ledger, grace: float) -> None:
    unnamed = ledger.put_data("bb", b"beaten", "bin")
    with pytest.raises(UserError, match="too short") as raised:
        sweep([ledger], grace=grace, delete=True, now=time.time() + 7200)
    assert "1h" in raised.value.fix and ledger.store.exists(unnamed.key)


def test_what_is_named_while_it_is_listed_is_spared(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    item, named = ledger.put_data("bb", b"late", "bin"), garbage._named

    def named_meanwhile(ledger: Ledger) -> Iterator[Iterator[str]]:
        ledger.commit("bb", score_record(data=item.to_json()), ScoreRecord)
        yield from named(ledger)

    monkeypatch.setattr(garbage, "_named", named_meanwhile)
    assert later(ledger, delete=True) == []


def test_many_objects_are_told_apart_in_one_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path / "many")))
    for number in range(70):
        item = ledger.put_data(f"{number:064x}", b"%d" % number, "bin")
        if number % 7:
            ledger.commit(f"{number:064x}", score_record(data=item.to_json()), ScoreRecord)
    monkeypatch.setattr(tables, "ROWS", 8)  # several batches of each table
    asked: list[str] = []
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: _Counting(connect(*a, **k), asked))
    assert len(later(ledger, delete=False)) == 10
    assert sum("JOIN" in query for query in asked) == 1, "not once an object"
    assert sum(query.startswith("SELECT") for query in asked) == 1


@pytest.fixture
def dataset(ledger: Ledger) -> Ledger:
    """With two snapshots, and nothing but them naming their shards, manifest parts, lists and matches."""
    for number in range(2):
        names = {
            "shards": {"samples": 1, "unit": "u"},
            "manifest": {"rows": 3, "unit": "u"},
        }
        indexes = {}
        for name, more in names.items():
            schema = SHARDS_SCHEMA if name == "shards" else PARTS_SCHEMA
            item = ledger.put_data("cc", f"{name} {number}".encode(), "bin")
            table = pa.Table.from_pylist([{**item.to_json(), **more}], schema)
            indexes[name] = ledger.put_data(name, to_parquet(table), "parquet").to_json()
        texts = {name: f"{name} {number}".encode() for name in ("urls", "keep")}
        others = {name: ledger.put_data(name, text, "txt").to_json() for name, text in texts.items()}
        matches = ledger.put_data("matches", b"%d" % number, "parquet").to_json()
        ledger.create_snapshot(
            snapshot_document(
                **indexes, urls=others["urls"], lists={"keep": others["keep"]}, matches=matches, decision_id=str(number)
            )
        )
    return ledger


def test_what_a_snapshot_names_through_its_indexes_is_never_garbage(dataset: Ledger) -> None:
    """Though no unit record names it any more; of a snapshot under whatever number, also behind a hole that was given
    up."""
    unnamed = dataset.put_data("bb", b"beaten", "bin")
    document = dataset.snapshot(2).to_json()
    dataset.store.create("snapshots/000007.json", canonical({**document, "snapshot": 7, "parent": 6}))
    dataset.store.create("repairs/x.json", canonical({"lost": [2, [3, 6]]}))
    dataset.store.delete("snapshots/000002.json")
    dataset.store.put("LATEST", b"1")
    assert [Path(item.url).name for item in later(dataset, delete=True)] == [Path(unnamed.key).name]
    assert len(list(dataset.store.list("data"))) == 1 + 2 * 7


@pytest.mark.parametrize("gone", ["snapshots/000001.json", "snapshots/000002.json"])
@pytest.mark.parametrize("latest", [b"1", b"2", None], ids=str)
def test_a_snapshot_that_is_lost_stops_gc_until_it_is_given_up(
    dataset: Ledger, gone: str, latest: bytes | None, tmp_path: Path
) -> None:
    """Its data are named by nothing else, and it can be restored from a backup."""
    dataset.put_data("bb", b"beaten", "bin")
    dataset.store.delete(gone)
    dataset.store.put("LATEST", latest) if latest else dataset.store.delete("LATEST")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(LostSnapshotError, match=f"{gone} of .* is gone, though") as raised:
        later(dataset, delete=True)
    assert "`curate repair" in raised.value.fix and "--accept-loss --apply`" in raised.value.fix
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    dataset.store.create("repairs/x.json", canonical({"lost": [snapshot_number(gone)]}))
    assert len(later(dataset, delete=True)) == 8  # the seven objects of the snapshot, and the one that nothing named


WRONG = [b"", b"[]", b"{}", b'{"a": 1}', b'{"kind": "write"}', b'{"kind": "score", "data": {}}', b"\xff", b'{"kind":']


@pytest.mark.slow
@pytest.mark.parametrize("data", WRONG, ids=repr)
@pytest.mark.parametrize("key", ["units/aa.json", "units/zz.json", "snapshots/000001.json", "snapshots/000003.json"])
def test_a_document_that_cannot_be_read_stops_gc(dataset: Ledger, key: str, data: bytes, tmp_path: Path) -> None:
    other = Ledger(open_store(str(tmp_path / "other")))
    for ledger in (dataset, other):
        ledger.put_data("bb", b"beaten", "bin")
    dataset.store.put(key, data)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for ledgers in ((dataset, other), (other, dataset)):
        with pytest.raises(LedgerError, match=f"{key} is damaged") as raised:
            later(*ledgers, delete=True)
        lost = key.startswith("snapshots") and not data.startswith(b'{"a"') and not data.startswith(b'{"kind": ')
        assert re.search(rf"`curate repair \S+{' --accept-loss' * lost} --apply`", raised.value.fix)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("name", ["shards", "manifest"])
@pytest.mark.parametrize("how", ["gone", "cut", "other"])
def test_an_index_that_cannot_be_read_stops_gc(dataset: Ledger, name: str, how: str) -> None:
    unnamed = dataset.put_data("bb", b"beaten", "bin")
    key = dataset.snapshot(1)[name]["key"]
    if how == "gone":
        dataset.store.delete(key)
    else:
        dataset.store.put(key, dataset.store.get(key)[:-9] if how == "cut" else to_parquet(pa.table({"x": [1]})))
    with pytest.raises(LedgerError, match=key) as raised:
        later(dataset, delete=True)
    assert "curate repair" in raised.value.fix and dataset.store.exists(unnamed.key)


def test_a_put_in_the_middle_of_a_sweep_loses_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rerun puts what a killed worker had put, at any moment of a sweep; what it commits stays."""
    unnamed = ledger.put_data("bb", b"table", "bin")
    delete, made = Store.delete, list[str]()

    def put_and_delete(store: Store, key: str) -> None:
        item = ledger.put_data("bb", b"table", "bin")
        made.append(ledger.commit("bb", score_record(data=item.to_json()), ScoreRecord).data.key)
        delete(store, key)

    monkeypatch.setattr(Store, "delete", put_and_delete)
    assert [item.url.endswith(unnamed.key) for item in later(ledger, delete=True)] == [True]
    assert made != [unnamed.key] and ledger.store.get(made[0]) == b"table"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("24h", 86400), ("7d", 604800)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 weeks", "-1h", "h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UserError, match="is not a length of time"):
        parse_duration(text)
