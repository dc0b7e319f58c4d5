"""The chain of snapshots: what a repair gives up stays given up, whenever it is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import snapshot_document

from curation.core.digest import canonical
from curation.curating.verification.chain import ChainCheck
from curation.curating.verification.repairs import RepairWriter, dry_run
from curation.ledger import lost_snapshots, snapshot_keys
from curation.ledger.ledger import Ledger
from curation.storage.store import Store, open_store


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """With three snapshots of an earlier version, which put no lists of shards."""
    ledger = Ledger(open_store(str(tmp_path / "out")))
    for name in "abc":
        ledger.create_snapshot(snapshot_document(decision_id=name))
    return ledger


def repaired(ledger: Ledger, repairs: RepairWriter) -> list[str]:
    """The findings that a repair with `accept_loss` leaves."""
    return [str(item) for item in ChainCheck(ledger.store, repairs, accept_loss=True).findings() if not item.mended]


@pytest.mark.parametrize("damage", ["gone", "not JSON"])
def test_a_repair_that_is_killed_gives_no_number_away(
    ledger: Ledger, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    calls = {name: getattr(Store, name) for name in ("put", "create", "delete")}
    for last in range(9):
        ledger.store.put("LATEST", b"3")
        for item in list(ledger.store.list("repairs")):
            ledger.store.delete(item.key)
        ledger.store.delete("snapshots/000003.json") if damage == "gone" else ledger.store.put(
            "snapshots/000003.json", b""
        )
        left = iter(range(last))
        for name, call in calls.items():

            def killing(self: Store, *args: object, call=call, left=left) -> object:
                if next(left, None) is None:
                    raise Killed
                return call(self, *args)

            monkeypatch.setattr(Store, name, killing)
        try:
            done = repaired(ledger, RepairWriter(ledger.store, "one")) == []
        except Killed:
            done = False
        for name, call in calls.items():
            monkeypatch.setattr(Store, name, call)
        known = lost_snapshots.given_up(ledger.store) == [range(3, 4)]
        assert known or snapshot_keys.hint(ledger.store) == 3, "LATEST shows that it is used"
        assert repaired(ledger, RepairWriter(ledger.store, "two")) == [] and ledger.latest() == 2
        if done:
            break
    assert done and last >= 2
    assert ledger.create_snapshot(snapshot_document(decision_id="d")).snapshot == 4


def test_a_parent_that_only_equals_a_number(ledger: Ledger) -> None:
    ledger.store.put("snapshots/000002.json", canonical({**ledger.snapshot(2).to_json(), "parent": True}))
    assert repaired(ledger, RepairWriter(ledger.store, "one")) == [] and ledger.snapshot(2).parent == 1


def test_a_dry_repair_gives_nothing_up(ledger: Ledger) -> None:
    ledger.store.delete("snapshots/000002.json")
    (said,) = repaired(ledger, dry_run(ledger.store))
    assert "000002.json" in said and not list(ledger.store.list("repairs"))


def test_many_numbers_are_one_finding_and_one_range(ledger: Ledger) -> None:
    document = {**ledger.snapshot(3).to_json(), "decision_id": "z", "snapshot": 5_000, "parent": 4_999}
    ledger.store.put("snapshots/005000.json", canonical(document))
    assert repaired(ledger, RepairWriter(ledger.store, "one")) == []
    assert json.loads(ledger.store.get("repairs/one/lost.json")) == {"lost": [[4, 4_999]]}
    assert repaired(ledger, dry_run(ledger.store)) == [] and ledger.latest() == 5_000
    made = ledger.create_snapshot(snapshot_document(decision_id="d"))
    assert (made.snapshot, made.parent) == (5_001, 5_000)


def test_the_parent_of_a_snapshot_that_follows_a_number_that_was_given_up(ledger: Ledger) -> None:
    ledger.store.delete("snapshots/000003.json")
    assert repaired(ledger, RepairWriter(ledger.store, "one")) == []
    made = ledger.create_snapshot(snapshot_document(decision_id="d"))
    assert (made.snapshot, made.parent) == (4, 2) and repaired(ledger, dry_run(ledger.store)) == []
    ledger.store.put("snapshots/000004.json", canonical({**made.to_json(), "parent": 1}))
    (said,) = repaired(ledger, dry_run(ledger.store))
    assert "`parent`" in said
    assert repaired(ledger, RepairWriter(ledger.store, "two")) == [] and ledger.snapshot(4).parent == 2
