"""Attempts in the store: who finds them, what is tried next, and when a sample is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.core.types import ShardRef
from curation.ledger import attempts
from curation.ledger.attempts import WHOLE, Attempt, CallSettings, Suspicion, attempt_of, spread
from curation.ledger.ledger import Ledger
from curation.ledger.score_tables import Column
from curation.storage.store import open_store

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
    assert found.care(64) == CallSettings(32, {"f1": [2, 4, 3, 5]}, {}, 0, 5)
    found.note(of(4, 4, alone=True))
    assert found.care(64) == CallSettings(32, {"f1": [4, 2, 3, 5]}, {}, 0, 5)
    assert found.convicted() == []  # one death may have come from outside
    found.note(of(4, 4, alone=True, how="poison_hung"))
    assert found.convicted() == [("f1", 4)]
    found.note(attempt_of("poison", SHARD, CLIP, (4, 4), "poison_hung", ""))
    assert found.convicted() == []
    # Not for their number; and there may be more in the rest of the unit.
    assert found.care(64) == CallSettings(64, {"f1": [2, 3, 5]}, {"f1": {4: "poison_hung"}}, 0, WHOLE)
    found.note(of(2, 5))
    assert found.care(64).size == 32  # which this one may be of


def test_one_row_of_a_batch_of_several_units_was_not_alone() -> None:
    found = Suspicion()
    for _ in range(9):
        found.note(of(4, 4, alone=False))
    assert found.convicted() == [] and found.care(64).size == 1  # until it is the only one in work


def test_what_was_good_is_not_tried_again_until_a_process_dies_of_it() -> None:
    found = Suspicion()
    found.note(attempt_of("attempt", SHARD, CLIP, (64, 71), "poison_died", "", False, passed=64, cleared=[]))
    found.note(attempt_of("attempt", SHARD, CLIP, (66, 66), "poison_died", "", True, passed=64, cleared=[64, 68]))
    care = found.care(8)
    assert (care.passed, care.until) == (64, 71) and care.alone == {"f1": [66, 70, 65, 69, 67, 71]}
    found.learn(96, [("f1", row) for row in (65, 67, 69, 70, 71)])
    assert found.care(8).alone == {"f1": [66]} and found.care(8).until < found.care(8).passed
    assert found.counts() == (96, 0)
    found.note(attempt_of("poison", SHARD, CLIP, (66, 66), "poison_died", ""))
    assert found.care(8).passed == 96 and found.care(8).until == WHOLE and found.counts() == (95, 1)
    found.note(of(32, 39))  # good before, and in work when a process died
    assert found.care(8).passed == 32 and found.care(8).alone["f1"] == spread(32, 39)


def test_a_sample_that_raises_explains_no_death() -> None:
    found = Suspicion()
    found.note(of(0, 7))
    found.note(attempt_of("poison", SHARD, CLIP, (3, 3), "poison_raised", ""))
    assert found.care(64).size == 32 and found.care(64).poison == {"f1": {3: "poison_raised"}}


def test_rows_are_tried_in_an_order_that_is_spread_over_them() -> None:
    assert spread(8, 15) == [8, 12, 10, 14, 9, 13, 11, 15] and spread(5, 5) == [5]
    for n in range(1, 70):
        rows = spread(100, 99 + n)
        assert sorted(rows) == list(range(100, 100 + n))
        assert len({row for row in rows[:9] if row < 100 + n / 2}) <= 6


def test_attempts_are_numbered_after_those_that_are_known(ledger: Ledger) -> None:
    for taken in range(5):
        attempts.record(ledger, of(0, 9), taken)
    assert ledger.store.stats.creates == 5
    attempts.record(ledger, of(0, 9), 3)  # of a driver that knows of three
    assert len(list(attempts.recorded(ledger))) == 6 and ledger.store.stats.creates == 8


def test_an_attempt_of_an_earlier_version_is_read(ledger: Ledger) -> None:
    document = of(0, 9).to_json()
    del document["passed"], document["cleared"]
    ledger.store.create("attempts/u/000001.json", canonical(document))
    (found,) = attempts.recorded(ledger)
    assert (found.passed, found.cleared) == (0, [])
