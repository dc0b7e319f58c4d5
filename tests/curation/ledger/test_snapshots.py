"""Snapshots: dense numbers, one for each result, and a hint that decides nothing."""

from __future__ import annotations

import re

import pytest
from builders import snapshot_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.core.errors import LostSnapshotError, NoSnapshotError
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store


def test_snapshots_are_dense_and_have_parents(ledger: Ledger) -> None:
    with pytest.raises(NoSnapshotError):
        ledger.snapshot()
    made = [ledger.create_snapshot(snapshot_document(decision_id=str(i))) for i in range(3)]
    assert [(m["snapshot"], m["parent"]) for m in made] == [(1, None), (2, 1), (3, 2)]
    assert ledger.snapshot()["decision_id"] == "2"
    assert ledger.snapshot(1)["decision_id"] == "0"
    with pytest.raises(NoSnapshotError, match="@9"):
        ledger.snapshot(9)


def test_two_drivers_with_the_same_result_make_one_snapshot(ledger: Ledger) -> None:
    assert ledger.create_snapshot(snapshot_document()).snapshot == 1
    again = snapshot_document()  # from a driver with another Arrow and other names of its objects
    again["shards"] = {"key": "data/shards-1-1.parquet", "sha256": "1" * 64, "bytes": 4}
    assert ledger.create_snapshot(again).to_json() == ledger.snapshot(1).to_json()
    assert ledger.latest() == 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(hint=st.binary(max_size=12) | st.integers(0, 20).map(lambda n: str(n).encode()), n=st.integers(0, 5))
def test_latest_is_a_hint_only(tmp_path_factory: pytest.TempPathFactory, hint: bytes, n: int) -> None:
    """A hint that is behind, damaged or gone costs reads. One that names what is not there is an error."""
    ledger = Ledger(open_store(str(tmp_path_factory.mktemp("out"))))
    for i in range(n):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.put("LATEST", hint)
    if re.fullmatch(rb"[1-9][0-9]{0,8}", hint) and int(hint) > n:  # with leading zeros it is no number
        with pytest.raises(LostSnapshotError, match=f"{int(hint):06d}.json .* gone, though LATEST names @{int(hint)}"):
            ledger.latest()
    else:
        assert ledger.latest() == n
    ledger.store.delete("LATEST")
    assert ledger.latest() == n


def test_a_lost_snapshot_is_not_replaced(ledger: Ledger) -> None:
    """Neither is the one before it opened in its place, nor does another get its number, without a word."""
    for i in range(3):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.delete("snapshots/000003.json")
    for call in (ledger.latest, ledger.snapshot, lambda: ledger.create_snapshot(snapshot_document(decision_id="3"))):
        with pytest.raises(
            LostSnapshotError, match=r"000003\.json .* is gone, .* the newest snapshot that exists is @2"
        ) as error:
            call()
    assert f"open {ledger.store.url.removeprefix('file://')}@2" in error.value.fix
    assert ledger.snapshot(2).snapshot == 2


def test_without_a_hint_the_newest_is_found_behind_a_hole(ledger: Ledger) -> None:
    for i in range(4):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.delete("snapshots/000002.json")
    ledger.store.delete("LATEST")
    assert ledger.latest() == 4
