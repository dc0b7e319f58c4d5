"""Shards that are quarantined whole: listed once, with their reason, and none that holds a sample."""

from __future__ import annotations

import pytest

from curation.core.errors import LedgerError
from curation.dataset.quarantined import whole_shards
from curation.dataset.snapshot import Snapshot, open_snapshot


def test_the_error_page_is_listed_and_the_cut_archive_is_not(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    """The cut archive holds samples, so its quarantined rows are in the manifest."""
    for snapshot in two_snapshots:
        (row,) = whole_shards(snapshot)
        assert (row["source_key"], row["reason"]) == ("90000.tar", "tar_not_a_tar")
        assert row["uid"] is None and row["source_offset"] == 0 and row["source_length"] == 1026
        manifest = {found["source_key"] for found in snapshot.manifest.quarantined(limit=1000)}
        assert "90001.tar" in manifest and "90000.tar" not in manifest


def test_only_the_reason_that_is_asked_for(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    assert len(list(whole_shards(two_snapshots[0], "tar_not_a_tar"))) == 1
    assert list(whole_shards(two_snapshots[0], "tar_truncated")) == []
    assert list(whole_shards(two_snapshots[0], "no_such_reason")) == []


def test_a_missing_record_is_one_line(
    two_snapshots: tuple[Snapshot, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = open_snapshot(two_snapshots[0].store.url, 1)
    monkeypatch.setattr("curation.ledger.ledger.Ledger.find", lambda *args: None)
    with pytest.raises(LedgerError, match="units/"):
        list(whole_shards(snapshot))
