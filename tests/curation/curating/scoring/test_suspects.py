"""The driver's reaction to the notes of dead processes: which rows it tries next and sets aside. No Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.core.errors import IncompleteError
from curation.core.types import ShardRef
from curation.curating.scoring import isolation
from curation.curating.scoring.batches import shard_refs
from curation.curating.scoring.black_box import Findings, Span, WorkNote
from curation.curating.scoring.scoring_task import CallProgress, ScoringTask
from curation.curating.scoring.suspects import Suspects
from curation.ledger.attempts import WHOLE, CallSettings, spread
from curation.ledger.ledger import Ledger
from curation.ledger.score_tables import Column
from curation.recipes.curation_recipe import Compute
from curation.shards.images import DecodeLimits
from curation.storage.store import open_store

A, B, C = (ShardRef(f"{name}.tar", 10, "e") for name in "abc")


def table(*shards: ShardRef) -> pa.Table:
    names = ("shard_key", "shard_size", "shard_etag")
    return pa.table({name: list(column) for name, column in zip(names, zip(*shards, strict=True), strict=True)})


@pytest.fixture
def job(tmp_path: Path) -> ScoringTask:
    store = open_store(str(tmp_path))
    columns = [Column("clip", "f1")]
    return ScoringTask(store, Ledger(store), Column("index", "f0"), columns, {}, DecodeLimits(), Compute(batch_size=64))


def words(*spans: Span, call: int = 1, column: str | None = "clip", hung: bool = False) -> WorkNote:
    return WorkNote(call, column, spans, hung, "Timeout (0:00:02)!" if hung else "")


def died(found: Suspects, last: WorkNote | None, *shards: ShardRef, **options: Any) -> list[ShardRef]:
    again, given_up = found.died(
        1, table(*shards), options.pop("care", CallSettings(64)), last, options.pop("memory", False)
    )
    assert not given_up
    return list(shard_refs(again))


def test_three_deaths_find_a_sample_and_its_neighbours_come_again(job: ScoringTask) -> None:
    found = Suspects(job, table(A, B, C))
    assert died(found, words((0, 40, 59), (1, 0, 43)), A, B, C) == [C]
    assert list(found.waiting) == [A, B]
    units, care = found.next()
    assert list(shard_refs(units)) == [A] and care == CallSettings(32, {"f1": spread(40, 59)}, {}, 0, 59)
    assert died(found, words((0, 47, 47)), A) == []
    found.waiting.rotate(1)  # A again, before B
    units, care = found.next()
    assert list(shard_refs(units)) == [A] and care.alone["f1"][0] == 47
    assert died(found, words((0, 47, 47), hung=True), A) == []
    found.waiting.rotate(1)
    assert found.next()[1].poison == {"f1": {47: "poison_hung"}}
    other = Suspects(job, table(A, B, C))  # of a driver that comes after this one was killed
    assert other.known() == {A, B} == set(other.waiting)
    cares = {next(shard_refs(units)): care for units, care in (other.next(), other.next())}
    assert cares[A].poison == {"f1": {47: "poison_hung"}} and not cares[B].poison
    assert Suspects(job, table(C)).known() == set()


def test_a_sample_in_the_decoder_is_known_at_once(job: ScoringTask) -> None:
    found = Suspects(job, table(A, B))
    for _ in range(2):
        assert died(found, words((1, 5, 5), column=None), A, B) == [A]
    assert found.next()[1] == CallSettings(64, {"f0": []}, {"f0": {5: "poison_died"}}, 0, WHOLE)


def test_what_dies_of_nothing_comes_again_a_few_times(job: ScoringTask) -> None:
    found = Suspects(job, table(A, B))
    for last in (None, words(), words((0, 1, 2), call=7)) * 5:
        again, given_up = found.died(1, table(A, B), CallSettings(64), last, False)
        if given_up:
            break
        assert list(shard_refs(again)) == [A, B]
    assert [key for key, _ in given_up] == ["a.tar", "b.tar"] and not again.num_rows and not found.waiting


def test_too_little_memory_halves_the_batch_before_anybody_is_suspect(job: ScoringTask) -> None:
    found = Suspects(job, table(A, B))
    assert died(found, words((0, 0, 63)), A, B, memory=True) == [A, B]
    assert found.size == 32 and not found.waiting
    assert died(found, words((0, 0, 63)), A, B, memory=True) == [A, B]
    assert found.size == 32  # a call of the larger size that was under way
    # The kernel's killer leaves no word: where no sample turns out to be guilty, it was the batch.
    found = Suspects(job, table(A, B, C))
    for shard in (A, B):
        died(found, words((0, 0, 63)), shard)
        units, care = found.next()
        assert list(shard_refs(units)) == [shard] and care.size == 32
        found.done(units, care, CallProgress(samples=64, units=1))
    assert found.size == 32


def test_a_unit_under_suspicion_keeps_what_is_known_of_it_where_memory_is_short(job: ScoringTask) -> None:
    found = Suspects(job, table(A, B))
    died(found, words((0, 0, 63)), A)
    for _ in range(2):
        found.next()
        died(found, words((0, 47, 47)), A)
    sizes = []
    for _ in range(8):
        units, care = found.next()
        assert list(shard_refs(units)) == [A] and care.poison == {"f1": {47: "poison_died"}}
        sizes.append((care.size, found.size))
        if care.size == 1:
            break
        assert died(found, None, A, care=care, memory=True) == [] and list(found.waiting) == [A]
    assert sizes == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    found = Suspects(job, table(B))
    died(found, words((0, 0, 63)), B)
    for size in (32, 16, 8):  # its own batch, smaller than that of all others
        units, care = found.next()
        assert (care.size, found.size) == (size, 64)
        assert died(found, None, B, care=care, memory=True) == []


def test_nine_samples_of_ten_thousand_in_one_unit_do_not_end_the_run(job: ScoringTask) -> None:
    found = Suspects(job, table(A))
    for row in range(999, 10_000, 1000)[:9]:
        for _ in range(2):
            died(found, words((0, row, row), column=None), A)
    assert len(found.next()[1].poison["f0"]) == 9


def test_text_of_data_moves_no_cursor(job: ScoringTask, capfd: pytest.CaptureFixture[str]) -> None:
    shard = ShardRef("a\x1b[2J.tar", 10, "e")
    found = Suspects(job, table(shard))
    found.done(table(shard), CallSettings(64), CallProgress(aside=("b\x1b[2J: sample 3 is set aside",)))
    for _ in range(2):
        died(found, words((0, 3, 3)), shard)
    said = capfd.readouterr().err
    assert "\x1b" not in said and "a\\x1b[2J.tar" in said and "b\\x1b[2J" in said


def test_a_scorer_that_ends_processes_again_and_again_is_what_is_wrong(
    job: ScoringTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "LEAST", 2)
    found = Suspects(job, table(A, B))
    with pytest.raises(IncompleteError, match="scorer clip ends its process for 3 samples of the first 3"):
        for row in range(9):
            for _ in range(2):
                died(found, words((0, row, row)), A)
    found = Suspects(job, table(C, B))
    found.done(table(B), CallSettings(64), CallProgress(samples=8))
    for row in range(9):
        for _ in range(2):
            died(found, words((0, row, row)), C)
    found.done(table(B), CallSettings(64), CallProgress(samples=isolation.EVIDENCE))
    monkeypatch.setattr(isolation, "SHARE", 0.005)
    with pytest.raises(IncompleteError, match="scorer clip ends its process for 10 samples of the first 1,042"):
        for _ in range(2):
            died(found, words((0, 9, 9)), C)


def test_what_a_dead_process_found_is_kept(job: ScoringTask, capfd: pytest.CaptureFixture[str]) -> None:
    found = Suspects(job, table(A, B))
    facts = Findings({0: 64, 1: 32}, [("clip", 0, 64)], {("clip", 0, 70): ("poison_raised", "ValueError: no")})
    died(found, words((0, 64, 79))._replace(found=facts), A, B)
    units, care = found.next()
    assert list(shard_refs(units)) == [A] and care.passed == 64 and care.poison == {"f1": {70: "poison_raised"}}
    assert not {64, 70} & set(care.alone["f1"]) and len(care.alone["f1"]) == 14
    assert "a.tar: sample 70 is set aside: scorer clip raises ValueError: no" in capfd.readouterr().err
    more = Findings({0: 80}, [("clip", 0, row) for row in range(65, 80)])
    assert died(found, WorkNote(1, None, [], False, "", more), A) == []  # no sample in work: an outside kill
    assert found.next()[1].passed == 80
    other = Suspects(job, table(A, B))
    care = other.next()[1]
    assert care.passed == 64 and care.poison == {"f1": {70: "poison_raised"}} and 64 not in care.alone["f1"]
