"""Units scored again: what stays set aside, and what differs from score tables. In this process alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deaths import DECODE, DIES, RAISES, Pool, inspected
from inline_executor import InlineExecutor

from curation.curating.scoring.batches import units_table
from curation.curating.scoring.dispatch import score
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.rescoring import Rescorer, rescore
from curation.ledger import attempts
from curation.ledger import score_tables as scores
from curation.ledger.ledger import unit_id
from curation.shards import unit_reader as units


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(units, "inspect", inspected)
    return Pool(tmp_path, 20, {3: DIES, 5: RAISES, 9: DECODE}, 16, others=1)


@pytest.fixture
def convicted(pool: Pool) -> Pool:
    """Records of earlier drivers about samples that kill processes."""
    for column, row in ((pool.job.columns[0], 3), (pool.job.index, 9)):
        poison = attempts.attempt_of("poison", pool.shards[0], column, (row, row), attempts.DIED, "")
        attempts.record(pool.job.scored, poison)
    score_all(pool)
    return pool


def score_all(pool: Pool) -> None:
    executor = InlineExecutor(pool.root / "places")
    assert not [
        progress.failures for progress in score(pool.job, units_table(pool.shards), executor) if progress.failures
    ]


def record(pool: Pool, column: scores.Column) -> str:
    return f"units/{unit_id(pool.shards[0], column.fingerprint)}.json"


def test_what_ends_processes_is_not_tried_in_this_one(convicted: Pool) -> None:
    wanted = {3: "poison_died", 5: "poison_raised", 9: "poison_died"}
    assert convicted.reasons() == wanted
    store, values = convicted.job.scored.store, convicted.values()
    store.delete(record(convicted, convicted.job.columns[0]))
    score_all(convicted)  # attempts say what the decoder and the scorer die of
    assert convicted.reasons() == wanted and convicted.values() == values


def test_values_that_differ_from_the_models_are_found_and_replaced(convicted: Pool, tmp_path: Path) -> None:
    job, shard = convicted.job, convicted.shards[0]
    values, (column,) = convicted.values(), job.columns
    dry = Rescorer(job, RepairWriter(job.scored.store))
    assert dry.compare(shard) == [], "and a sample that is set aside kills no process"
    table = scores.read(job.scored, shard, column)
    edited = table["value"].to_pylist()
    edited[4] = 99.0
    poison = {3: "poison_died", 5: "poison_raised", 9: "poison_died"}
    job.scored.store.delete(record(convicted, column))
    scores.commit_score(job.scored, shard, column, table["uid"], pa.array(edited, pa.float32()), poison)
    (found,) = dry.compare(shard)
    assert found.code == "score_value" and "letters of 0.tar: 1 values differ" in found.what and "row 4" in found.what
    assert convicted.values() == edited
    assert Rescorer(job, RepairWriter(job.scored.store, "r1")).compare(shard)
    assert convicted.values() == values and dry.compare(shard) == []
    rescored = rescore(job, convicted.shards, RepairWriter(job.scored.store), InlineExecutor(tmp_path / "places"))
    assert list(rescored) == [[], []]
    (gone,) = dry.compare(shard._replace(etag="another"))
    assert gone.code == "input" and "can't be scored again: object_changed" in gone.what
