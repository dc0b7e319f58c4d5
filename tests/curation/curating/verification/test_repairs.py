"""A repair copies each replaced object aside and leaves a record; a dry run writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter, begin_repair, dry_run, finish_repair
from curation.storage.store import Store, open_store


@pytest.fixture
def out(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "out"))
    store.put("units/a.json", b"damaged")
    return store


def everything(store: Store) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list()}


def test_a_dry_repair_changes_nothing(out: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    repairs, before = dry_run(out), everything(out)
    assert not repairs.put(out, "units/a.json", b"right") and not repairs.take_out(out, "units/a.json")
    assert not repairs.put_file(out, "data/a", tmp_path / "file")
    repairs.give_up([range(4, 6)])
    assert everything(out) == before


def test_what_is_replaced_or_taken_out_is_kept_aside(out: Store, tmp_path: Path) -> None:
    scores = open_store(str(tmp_path / "scores"))
    scores.put("units/s.json", b"theirs")
    repairs = RepairWriter(out, "r")
    assert repairs.put(out, "units/a.json", b"right") and repairs.take_out(scores, "units/s.json")
    assert repairs.put(out, "units/new.json", b"new"), "nothing is kept of an object that was gone"
    assert everything(out) == {
        "units/a.json": b"right", "units/new.json": b"new",
        "repairs/r/aside/units/a.json": b"damaged", "repairs/r/aside/scores/units/s.json": b"theirs",
    }  # fmt: skip
    assert everything(scores) == {}


def test_a_repeated_repair_keeps_the_first_copy(out: Store) -> None:
    """Killed after its put, it finds its own object there; that is not what was damaged."""
    repairs = RepairWriter(out, "r")
    repairs.put(out, "units/a.json", b"half way")
    repairs.put(out, "units/a.json", b"right")
    assert out.get("repairs/r/aside/units/a.json") == b"damaged"


def test_a_repair_leaves_a_record(out: Store) -> None:
    one, other = begin_repair(out, 3), begin_repair(out, 3)
    assert one.id != other.id
    begun = json.loads(out.get(f"repairs/{one.id}/started.json"))
    assert begun["snapshot"] == 3 and begun["software"]["tutelage"]
    findings = [
        Finding("list", "/out/x", "is gone", "it is rebuilt", mended=True),
        Finding("plan", "/out/y", "is gone"),
    ]
    one.give_up([range(4, 5), range(7, 10)])
    assert json.loads(out.get(f"repairs/{one.id}/lost.json")) == {"lost": [4, [7, 9]]}
    record = json.loads(out.get(finish_repair(one, 3, findings, [range(4, 5)])))
    assert [item["object"] for item in record["mended"]] == ["/out/x"]
    assert [item["object"] for item in record["not_mended"]] == ["/out/y"]
    assert record["lost"] == [4]
