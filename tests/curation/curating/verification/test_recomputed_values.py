"""Values that are stored twice: which copies a check has recomputed, and the next step where it has not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import score_record

from curation.core.software import software, software_id
from curation.core.types import ShardRef
from curation.curating.verification.recomputed_values import Recomputed
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.score_tables import Column
from curation.storage.store import open_store

SHARDS = [ShardRef(f"{n}.tar", 1, "e") for n in range(3)]
COLUMNS = [Column("clip_score", "f"), Column("phash", "g")]


@pytest.fixture
def recomputed(tmp_path: Path) -> Recomputed:
    """All units scored again, by the software that made them."""
    store = open_store(str(tmp_path))
    for shard in SHARDS:
        for column in COLUMNS:
            record = score_record(software=software_id(software()))
            store.put(f"units/{unit_id(shard, column.fingerprint)}.json", json.dumps(record).encode())
    check: Any = SimpleNamespace(scored=Ledger(store), details_hold=lambda shard: shard != SHARDS[2])
    return Recomputed(check, "file:///out", "d", 0, 1.0, frozenset(column.name for column in COLUMNS))


def test_scores_are_settled_once_all_are_made_again(recomputed: Recomputed) -> None:
    assert recomputed.scores(SHARDS, COLUMNS) == ""


@pytest.mark.parametrize("share", [0.0, 1e-9])
def test_units_that_were_not_drawn_stay_open(recomputed: Recomputed, share: float) -> None:
    said = replace(recomputed, share=share).scores(SHARDS, COLUMNS)
    assert "`curate repair /out --rescore 1.0 --apply`" in said


def test_a_column_that_could_not_be_scored_is_named(recomputed: Recomputed) -> None:
    said = replace(recomputed, columns=frozenset({"clip_score"})).scores(SHARDS, COLUMNS)
    assert "phash" in said and "clip_score" not in said


@pytest.mark.parametrize("record", [score_record(software="0" * 16), score_record(), None])
def test_scores_of_other_software_stay_open(recomputed: Recomputed, record: dict[str, Any] | None) -> None:
    """They pass within a tolerance, so a smaller edit would pass, too."""
    key = f"units/{unit_id(SHARDS[1], 'g')}.json"
    recomputed.check.scored.store.put(key, json.dumps(record).encode())
    assert "software" in recomputed.scores(SHARDS, COLUMNS)
    assert recomputed.scores(SHARDS[:1], COLUMNS) == ""


def test_details_are_settled_where_the_shard_gives_them(recomputed: Recomputed) -> None:
    assert recomputed.details(SHARDS[:2]) == ""
    assert recomputed.details(SHARDS) != ""
