"""The puts of a repair while `curate gc` sweeps the same store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from builders import score_record

from curation.curating.garbage import MIN_GRACE, sweep
from curation.curating.verification.comparison import Comparison
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.documents import ScoreRecord
from curation.ledger.ledger import Ledger
from curation.storage.store import Store, open_store


def mended(out: Store, unit: str, spool: Path, suffix: str) -> str:
    """Repair a unit whose record is gone; returns the name of its data."""
    compared = Comparison(out, RepairWriter(out, "a-repair"), lambda unit, suffix: [], free=True)
    if suffix == "tar":
        spool.write_bytes(b"table")
        item = compared.put_data_file(unit, spool, suffix)
    else:
        item = compared.put_data(unit, b"table", suffix)
    compared.commit(unit, score_record(data=item.to_json()), ScoreRecord)
    return item.key


@pytest.mark.parametrize("suffix", ["bin", "tar"])
def test_what_gc_is_about_to_delete_is_not_named_by_a_repair(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is gone, so its data are garbage: the repair puts them once more, under another name."""
    ledger = Ledger(open_store(str(tmp_path / "out")))
    unnamed = ledger.put_data("aa", b"table", suffix)
    delete, named = Store.delete, list[str]()

    def repair_and_delete(store: Store, key: str) -> None:
        if not named:
            named.append(mended(ledger.store, "aa", tmp_path / "spool", suffix))
        delete(store, key)

    monkeypatch.setattr(Store, "delete", repair_and_delete)
    assert len(sweep([ledger], grace=MIN_GRACE, delete=True, now=time.time() + 7200)) == 1
    assert named != [unnamed.key] and ledger.store.get(named[0]) == b"table"
    assert ledger.find("aa", ScoreRecord).data.key == named[0]  # type: ignore[union-attr]
