"""The list of shards that a snapshot was made without: believed by its hash, rebuilt from commit records."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from curation.core.types import ShardRef
from curation.curating.verification.repairs import RepairWriter, dry_run
from curation.curating.verification.unreadable_shards import check_unreadable
from curation.ledger.unreadable import UNREADABLE, listed
from curation.storage.store import Store, open_store

REASON = sorted(UNREADABLE)[0]
LIST = {ShardRef("7.tar", 512, "e7"): REASON}
DATA = listed(LIST)
ITEM = {"key": "data/unreadable-0.json", "sha256": sha256(DATA).hexdigest(), "bytes": len(DATA)}
INPUTS: list[dict[str, Any]] = [
    {"key": "1.tar", "size": 9, "etag": "e1", "reason": None},
    {"key": "7.tar", "size": 512, "etag": "e7", "reason": REASON},
    {"key": "8.tar", "size": 9, "etag": "e8", "reason": "tar_truncated"},
]


@pytest.fixture
def out(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


def test_a_sound_list_is_read_and_no_record_is(out: Store) -> None:
    def recorded() -> list[dict[str, Any]]:
        raise AssertionError("records are read only where the list is damaged")

    out.put(ITEM["key"], DATA)
    assert check_unreadable(out, {"unreadable": ITEM}, recorded, dry_run(out)) == ([], LIST)
    assert check_unreadable(out, {}, recorded, dry_run(out)) == ([], {})
    assert check_unreadable(out, {"unreadable": 3}, recorded, dry_run(out)) == ([], None)


@pytest.mark.parametrize("there", [None, b"[]", DATA.replace(b"7.tar", b"9.tar")])
def test_a_damaged_list_is_rebuilt_from_the_records(out: Store, there: bytes | None) -> None:
    if there is not None:
        out.put(ITEM["key"], there)
    (finding,), shards = check_unreadable(out, {"unreadable": ITEM}, lambda: INPUTS, dry_run(out))
    assert shards == LIST and finding.code == "list" and finding.how and not finding.mended
    (finding,), _ = check_unreadable(out, {"unreadable": ITEM}, lambda: INPUTS, RepairWriter(out, "r"))
    assert finding.mended and out.get(ITEM["key"]) == DATA


@pytest.mark.parametrize("inputs", [[], INPUTS[:1], [{"key": "7.tar"}]])
def test_where_records_do_not_give_the_list_nothing_is_made_up(out: Store, inputs: list[dict[str, Any]]) -> None:
    (finding,), shards = check_unreadable(out, {"unreadable": ITEM}, lambda: inputs, RepairWriter(out, "r"))
    assert shards is None and finding.why and not finding.mended
    assert not out.exists(ITEM["key"])


def test_a_key_outside_of_data_is_never_written(out: Store) -> None:
    item = {**ITEM, "key": "snapshots/000001.json"}
    (finding,), _ = check_unreadable(out, {"unreadable": item}, lambda: INPUTS, RepairWriter(out, "r"))
    assert finding.why and not out.exists("snapshots/000001.json")
