"""Counts of a unit add up, or nothing is committed."""

from __future__ import annotations

import pytest
from builders import snapshot_document

from curation.core.errors import ConservationError
from curation.ledger.documents import WriteRecord
from curation.ledger.ledger import Ledger


def test_counts_that_do_not_add_up_are_refused(ledger: Ledger) -> None:
    bad = {"seen": 4, "kept": 1, "filtered": {"caption": 1}, "quarantined": {"bad_json": 1}}
    with pytest.raises(ConservationError, match="seen 4"):
        ledger.commit("u", {"kind": "write", **bad}, WriteRecord)
    with pytest.raises(ConservationError):
        ledger.create_snapshot(snapshot_document(samples=bad))
    assert ledger.find("u", WriteRecord) is None and ledger.latest() == 0
