"""Documents of a ledger that no snapshot's check reads: a damaged one is found, and moved aside where none needs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from builders import score_record

from curation.core.types import ShardRef
from curation.curating.verification.repairs import RepairWriter, dry_run
from curation.curating.verification.unreferenced_documents import check_loose
from curation.ledger.ledger import Ledger, unit_id
from curation.storage.store import Store, open_store

UNIT = unit_id(ShardRef("0.tar", 1, "e"), "f")
RECORD = f"units/{UNIT}.json"


@pytest.fixture
def out(tmp_path: Path) -> Store:
    """A plan with its page, and one score record with its table; no snapshot."""
    store = open_store(str(tmp_path / "out"))
    listing = pa.table({"key": ["0.tar"], "size": [1], "etag": ["e"]})
    Ledger(store).plan(
        iter(listing.to_batches()), {"corpus": {"root": "/c", "patterns": ["*"]}, "fingerprints": {"index": "f"}}
    )
    key = f"data/{UNIT}-0.parquet"
    store.put(key, b"abc")
    data = {"key": key, "sha256": sha256(b"abc").hexdigest(), "bytes": 3}
    store.put(RECORD, json.dumps(score_record(data=data)).encode())
    return store


def first(store: Store, folder: str) -> str:
    return min(info.key for info in store.list(folder))


def test_sound_documents_have_no_finding(out: Store) -> None:
    assert list(check_loose(out, dry_run(out), ())) == []


DAMAGES: dict[str, tuple[str, Callable[[Store], str]]] = {}


def damage(code: str) -> Callable[[Callable[[Store], str]], Callable[[Store], str]]:
    """Name a function that damages one object and returns its key."""

    def named(plant: Callable[[Store], str]) -> Callable[[Store], str]:
        DAMAGES[plant.__name__] = (code, plant)
        return plant

    return named


@damage("record")
def text(out: Store) -> str:
    out.put(RECORD, b"<html>")
    return RECORD


@damage("record")
def copied(out: Store) -> str:
    out.put(f"units/{'1' * 64}.json", out.get(RECORD))
    return f"units/{'1' * 64}.json"


@damage("record")
def without_data(out: Store) -> str:
    out.delete(f"data/{UNIT}-0.parquet")
    return RECORD


@damage("record")
def misnamed(out: Store) -> str:
    out.put("units/notes.txt", b"mine")
    return "units/notes.txt"


@damage("plan")
def edited_plan(out: Store) -> str:
    key = min(info.key for info in out.list("plans") if info.key.count("/") == 1)
    out.put(key, out.get(key).replace(b'"/c"', b'"/d"'))
    return key


@damage("plan_page")
def truncated_page(out: Store) -> str:
    key = first(out, "plans/pages/")
    out.put(key, out.get(key)[:-9])
    return key


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_damaged_document_is_found_and_moved_aside(name: str, out: Store) -> None:
    code, plant = DAMAGES[name]
    key = plant(out)
    (finding,) = check_loose(out, dry_run(out), ())
    assert (finding.code, finding.object) == (code, out.location(key))
    assert finding.how and not finding.mended and out.exists(key)
    (finding,) = check_loose(out, RepairWriter(out, "r"), ())
    assert finding.mended and not out.exists(key) and out.exists(f"repairs/r/aside/{key}")
    assert list(check_loose(out, dry_run(out), ())) == []


def test_what_has_a_finding_already_is_not_found_again(out: Store) -> None:
    assert list(check_loose(out, dry_run(out), {out.location(text(out))})) == []


def test_an_empty_output_has_no_documents(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "none"))
    assert list(check_loose(store, dry_run(store), ())) == []
