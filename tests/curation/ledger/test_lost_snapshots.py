"""A number of a snapshot is used once: what is lost is neither passed over in silence nor replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import snapshot_document

from curation.core.digest import canonical
from curation.core.errors import LedgerError, LostSnapshotError, NoSnapshotError
from curation.ledger import lost_snapshots, snapshot_keys
from curation.ledger.ledger import Ledger
from curation.storage.store import Store, open_store


def with_urls(ledger: Ledger, name: str) -> dict[str, object]:
    """The arguments that a run passes to `create_snapshot`, with an existing list of shards."""
    return snapshot_document(decision_id=name, urls=ledger.put_data("urls", name.encode(), "txt").to_json())


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """With three snapshots."""
    ledger = Ledger(open_store(str(tmp_path / "out")))
    for name in "abc":
        ledger.create_snapshot(with_urls(ledger, name))
    return ledger


def give_up(ledger: Ledger, *lost: object) -> None:
    ledger.store.create("repairs/20260101T000000Z-00000000.json", canonical({"lost": lost}))


@pytest.mark.parametrize("latest", [b"1", b"2", b"3", None], ids=str)
def test_a_lost_latest_is_neither_passed_over_nor_replaced(ledger: Ledger, latest: bytes | None) -> None:
    """For any LATEST, and without one."""
    ledger.store.delete("snapshots/000003.json")
    ledger.store.put("LATEST", latest) if latest else ledger.store.delete("LATEST")
    for call in (ledger.latest, ledger.snapshot, lambda: ledger.create_snapshot(with_urls(ledger, "d"))):
        with pytest.raises(LostSnapshotError, match=r"snapshots/000003\.json of .* is gone, though .* exists is @2"):
            call()
    assert [item.key for item in ledger.store.list("snapshots") if "3" in item.key] == []
    give_up(ledger, 3)
    if latest == b"3":
        ledger.store.put("LATEST", b"2")
    assert ledger.latest() == 2
    made = ledger.create_snapshot(with_urls(ledger, "d"))
    assert (made.snapshot, made.parent) == (4, 2)
    assert ledger.store.get("urls/000003.txt") == b"c" and ledger.store.get("urls/000004.txt") == b"d"
    ledger.store.put("LATEST", b"1")
    assert ledger.latest() == 4, "behind the number that was given up"
    with pytest.raises(NoSnapshotError, match=r"@3 of .* was lost, and given up"):
        ledger.snapshot(3)


def test_a_number_that_only_a_list_of_shards_has_is_used(ledger: Ledger) -> None:
    ledger.store.put("urls/000009.txt", b"x")
    assert ledger.latest() == 3
    with pytest.raises(LostSnapshotError, match=r"000004\.json of .* is gone, though urls/000009\.txt exists"):
        ledger.create_snapshot(with_urls(ledger, "d"))
    give_up(ledger, [4, 9])
    assert ledger.create_snapshot(with_urls(ledger, "d")).snapshot == 10


def test_so_is_one_that_an_evaluation_has(ledger: Ledger) -> None:
    ledger.store.put(f"evaluations/000004-{'e' * 64}.json", b"{}")
    with pytest.raises(LostSnapshotError, match="an evaluation refers to it"):
        ledger.create_snapshot(with_urls(ledger, "d"))


def test_a_hole_stops_an_opening_that_comes_to_it(ledger: Ledger) -> None:
    ledger.store.delete("snapshots/000002.json")
    assert ledger.latest() == 3
    with pytest.raises(LostSnapshotError, match=r"000002\.json"):
        ledger.snapshot(2)
    ledger.store.put("LATEST", b"1")
    with pytest.raises(LostSnapshotError, match=r"000002\.json of .* the newest snapshot that exists is @3"):
        ledger.latest()


def test_all_snapshots_lost(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        ledger.store.delete(snapshot_keys.snapshot_key(number))
    ledger.store.delete("LATEST")
    with pytest.raises(LostSnapshotError, match="no snapshot exists") as error:
        ledger.latest()
    assert "@0" not in error.value.fix
    give_up(ledger, [1, 3])
    assert ledger.latest() == 0
    made = ledger.create_snapshot(with_urls(ledger, "d"))
    assert (made.snapshot, made.parent) == (4, None)


def test_a_snapshot_that_is_made_meanwhile_is_not_lost(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks of who opens, another driver creates the document and the list of its shards."""
    exists = Store.exists

    def late(store: Store, key: str) -> bool:
        found = exists(store, key)
        if key == "snapshots/000004.json" and not found:
            monkeypatch.setattr(Store, "exists", exists)
            Ledger(store).create_snapshot(with_urls(ledger, "d"))
        return found

    monkeypatch.setattr(Store, "exists", late)
    assert ledger.latest() == 4 and lost_snapshots.lost_numbers(ledger.store) == []
    assert lost_snapshots.lost_numbers(ledger.store, [1, 2, 3]) == [], "listed before the fourth was made"


def test_a_killed_process_left_no_list_of_shards(ledger: Ledger) -> None:
    """The next run of the same recipe puts it, and LATEST."""
    ledger.store.delete("urls/000003.txt")
    ledger.store.put("LATEST", b"2")
    ledger.create_snapshot({**ledger.snapshot(3).to_json()})
    assert ledger.store.get("urls/000003.txt") == b"c" and ledger.store.get("LATEST") == b"3"


def test_a_name_that_is_far_ahead_is_no_number_that_was_used(ledger: Ledger) -> None:
    ledger.store.put("urls/999999999.txt", b"x")
    ledger.store.put("urls/4.txt", b"x")
    assert ledger.create_snapshot(with_urls(ledger, "d")).snapshot == 4


def test_numbers_end(ledger: Ledger) -> None:
    document = {**ledger.snapshot(3).to_json(), "decision_id": "z", "snapshot": snapshot_keys.LAST}
    ledger.store.put(snapshot_keys.snapshot_key(snapshot_keys.LAST), canonical(document))
    ledger.store.put("LATEST", str(snapshot_keys.LAST).encode())
    with pytest.raises(LedgerError, match="no free number after snapshot @999999999"):
        ledger.create_snapshot(with_urls(ledger, "d"))


@pytest.mark.parametrize(
    ("there", "given", "last", "found"),
    [
        ([], [], 0, []),
        ([1, 2, 3], [], 3, []),
        ([1, 3], [], 3, [(2, 2)]),
        ([1, 3], [range(2, 3)], 5, [(4, 5)]),
        ([1, 10**9 - 1], [range(5, 8), range(6, 12)], 10**9 - 1, [(2, 4), (12, 10**9 - 2)]),
        ([5], [range(1, 3)], 4, [(3, 4)]),
        ([], [range(1, 100)], 7, []),
    ],
)
def test_holes(there: list[int], given: list[range], last: int, found: list[tuple[int, int]]) -> None:
    assert [(hole[0], hole[-1]) for hole in lost_snapshots.holes(there, given, last)] == found


def test_records_of_repairs_that_say_nothing_of_numbers(ledger: Ledger) -> None:
    for n, data in enumerate([b"", b"[]", b"{", b'{"lost": 3}', b'{"lost": ["x", [1], [1, "y"], null]}']):
        ledger.store.put(f"repairs/{n}.json", data)
    ledger.store.put("repairs/x/started.json", canonical({"lost": [1]}))
    assert lost_snapshots.given_up(ledger.store) == []
    give_up(ledger, 7, [2, 4], 5, True, -3, [-9, 0], [9, 8])
    assert lost_snapshots.given_up(ledger.store) == [range(2, 6), range(7, 8)]
    assert lost_snapshots.next_number(1, lost_snapshots.given_up(ledger.store)) == 6
    assert lost_snapshots.parents(6, lost_snapshots.given_up(ledger.store)) == (5, 1)
    assert lost_snapshots.parents(1, []) == (None, None) and lost_snapshots.parents(3, []) == (2, 2)


@pytest.mark.parametrize("text", [b"02", b"2\n", b" 2", b"+2", b"-2", b"9" * 50, "\u0662".encode(), b"2.0", b""])
def test_a_hint_is_a_number_as_a_run_writes_it(tmp_path: Path, text: bytes) -> None:
    store = open_store(str(tmp_path))
    store.put("LATEST", text)
    assert snapshot_keys.hint(store) is None
    store.put("LATEST", b"2")
    assert snapshot_keys.hint(store) == 2
