"""What gc finds: data that no record names, half-written files of killed processes; nothing else, nothing young."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from builders import score_record

from curation import garbage, tables
from curation.documents import ScoreRecord
from curation.errors import UserError
from curation.garbage import parse_duration, sweep
from curation.ledger import Ledger
from curation.store import open_store

connect = duckdb.connect
KILLED = """
import os, sys
from curation import local_store
from curation.store import open_store
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


def test_unnamed_and_half_written_objects_are_found_and_deleted_when_told(ledger: Ledger, tmp_path: Path) -> None:
    unnamed = ledger.put_data("bb", b"beaten", "bin")
    assert subprocess.run([sys.executable, "-c", KILLED, ledger.store.url], check=False).returncode == 9
    found = sweep(ledger, older_than=0, delete=False)
    assert sorted(item.bytes for item in found) == [4, 6]
    assert sweep(ledger, older_than=0, delete=True) == found
    assert sweep(ledger, older_than=0, delete=True) == []
    assert not ledger.store.exists(unnamed.key)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(
        ["aa.json", *(Path(item.key).name for item in ledger.store.list("data"))]
    )


def test_young_objects_are_spared(ledger: Ledger, tmp_path: Path) -> None:
    unnamed = ledger.put_data("bb", b"about to be named", "bin")
    assert sweep(ledger, older_than=60, delete=True) == []
    past = time.time() - 61
    os.utime(tmp_path / "out" / unnamed.key, (past, past))
    assert len(sweep(ledger, older_than=60, delete=True)) == 1


def test_what_is_named_while_it_is_listed_is_spared(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    item, named = ledger.put_data("bb", b"late", "bin"), garbage._named

    def named_meanwhile(ledger: Ledger) -> Iterator[list[str]]:
        ledger.commit("bb", score_record(data=item.to_json()), ScoreRecord)
        yield from named(ledger)

    monkeypatch.setattr(garbage, "_named", named_meanwhile)
    assert sweep(ledger, older_than=0, delete=True) == []


def test_many_objects_are_told_apart_in_one_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path / "many")))
    for number in range(70):
        item = ledger.put_data(f"{number:064x}", b"%d" % number, "bin")
        if number % 7:
            ledger.commit(f"{number:064x}", score_record(data=item.to_json()), ScoreRecord)
    monkeypatch.setattr(tables, "ROWS", 8)  # several batches of each table
    asked: list[str] = []
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: _Counting(connect(*a, **k), asked))
    assert len(sweep(ledger, older_than=0, delete=False)) == 10
    assert sum("JOIN" in query for query in asked) == 1, "not once an object"
    assert sum(query.startswith("SELECT") for query in asked) == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("24h", 86400), ("7d", 604800)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 weeks", "-1h", "h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UserError, match="is not a length of time"):
        parse_duration(text)
