"""Attempts in the store: who finds them, what is tried next, and when a sample is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation import attempts
from curation.attempts import Attempt, Care, Suspicion, attempt_of
from curation.data import ShardRef
from curation.errors import LedgerError
from curation.ledger import Ledger
from curation.scores import Column
from curation.store import open_store

SHARD, CLIP = ShardRef("a.tar", 10, "e"), Column("clip", "f1")


def of(first: int, last: int, *, alone: bool = False, how: attempts.How = "poison_died") -> Attempt:
    return attempt_of("attempt", SHARD, CLIP, (first, last), how, "Fatal error", alone)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path)))


def test_attempts_are_found_by_whoever_comes_next(ledger: Ledger) -> None:
    assert list(attempts.recorded(ledger)) == []
    put = [of(0, 9), of(3, 3, alone=True), of(0, 9)]
    for attempt in put:
        attempts.record(ledger, attempt)
    found = list(attempts.recorded(Ledger(open_store(ledger.store.url))))
    assert sorted(map(repr, found)) == sorted(map(repr, put))
    assert found[0].shard == SHARD


def test_of_two_drivers_the_first_says_why_a_sample_is_poison(ledger: Ledger) -> None:
    first = attempt_of("poison", SHARD, CLIP, (3, 3), "poison_hung", "")
    assert attempts.record(ledger, first).how == "poison_hung"
    second = attempt_of("poison", SHARD, CLIP, (3, 3), "poison_died", "")
    assert attempts.record(ledger, second).how == "poison_hung"
    assert len(list(attempts.recorded(ledger))) == 1


def test_a_damaged_attempt_is_a_line(ledger: Ledger) -> None:
    attempts.record(ledger, of(0, 9))
    (key,) = [item.key for item in ledger.store.list("attempts")]
    ledger.store.put(key, b"{}")
    with pytest.raises(LedgerError, match="is damaged") as error:
        list(attempts.recorded(ledger))
    assert error.value.fix.startswith("delete it")


def test_the_next_call_tries_what_died_alone_first_then_the_rows_in_work() -> None:
    found = Suspicion()
    found.note(of(2, 5))
    assert found.care(64) == Care(32, {"f1": [2, 3, 4, 5]}, {})
    found.note(of(4, 4, alone=True))
    assert found.care(64) == Care(32, {"f1": [4, 2, 3, 5]}, {})
    assert found.convicted() == []  # one death may have come from outside
    found.note(of(4, 4, alone=True, how="poison_hung"))
    assert found.convicted() == [("f1", 4)]
    found.note(attempt_of("poison", SHARD, CLIP, (4, 4), "poison_hung", ""))
    assert found.convicted() == []
    assert found.care(64) == Care(64, {"f1": [2, 3, 5]}, {"f1": {4: "poison_hung"}})  # not for their number
    found.note(of(2, 5))
    assert found.care(64).size == 32  # which this one may be of


def test_one_row_of_a_batch_of_several_units_was_not_alone() -> None:
    found = Suspicion()
    for _ in range(9):
        found.note(of(4, 4, alone=False))
    assert found.convicted() == [] and found.care(64).size == 1  # until it is the only one in work
