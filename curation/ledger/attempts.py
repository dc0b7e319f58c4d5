"""Attempts that ended in a death: what the next one, by any process, has to know so that one sample costs one sample.

    <scores>/attempts/<unit_id>/<000001>.json              create-only: these rows were in work when a process died
    <scores>/attempts/<unit_id>/poison-<00000017>.json     create-only: this row is set aside, and why

`unit_id` is that of the shard under the fingerprint of a column: a scorer's, or the index', for what the decoder did.
A sample is poison where two processes died with it alone in work, or where a scorer raises for it alone. A unit
that no process died of costs no object and no request: a run that has something to score lists all attempts once, at
its start. An attempt that the listing misses costs one more death, never a sample.

An attempt also says what its process found to be good, so that no later one tries that again: k samples that processes
die of cost at most 3 k deaths, and each sample is tried alone once at most.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef
from curation.ledger import score_tables as scores
from curation.ledger.documents.base import Count, Document, Text, find
from curation.ledger.documents.ledger import PoisonReason
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.score_tables import Column

FOLDER = "attempts"
How = PoisonReason
DIED: How = "poison_died"
HUNG: How = "poison_hung"
RAISED: How = "poison_raised"
REASONS = {
    DIED: "a process died twice with this sample alone in work (a crash, an exit, no memory)",
    HUNG: "a process worked at this sample alone for longer than compute.batch_timeout, twice",
    RAISED: "a scorer or the decoder raises an error for this sample",
}
WHOLE = 1 << 62  # a row beyond the last of every unit
ALONE = 2  # deaths with one sample in work, after which it is set aside: one may have come from outside
_FIX = "delete it: what it counts is found again"


class Attempt(Document):
    """Rows `first` to `last` (inclusive) of a unit were in work when a process died; or one of them is poison."""

    kind: Literal["attempt", "poison"]
    key: Text
    size: Count
    etag: str
    column: Text
    fingerprint: Text
    first: Count
    last: Count
    alone: bool = False  # nothing but that one row was in work
    how: How
    detail: str = ""
    passed: Count = 0  # rows below it went through the decoder and all scorers in that process
    cleared: list[Count] = Field(default_factory=list)  # rows that the scorer of `column` was tried on alone, and lived
    nonce: str = ""  # two deaths that are alike in all the rest are two: a create of equal bytes counts as done

    @property
    def shard(self) -> ShardRef:
        return ShardRef(self.key, self.size, self.etag)


def attempt_of(
    kind: Literal["attempt", "poison"],
    shard: ShardRef,
    column: Column,
    rows: tuple[int, int],
    how: How,
    detail: str,
    alone: bool = True,
    passed: int = 0,
    cleared: Sequence[int] = (),
) -> Attempt:
    """An attempt at a unit, or, of one row, the end of attempts."""
    good = {"passed": passed, "cleared": sorted(cleared)} if kind == "attempt" else {}
    return Attempt(
        kind=kind,
        key=shard.key,
        size=shard.size,
        etag=shard.etag,
        column=column.name,
        fingerprint=column.fingerprint,
        first=rows[0],
        last=rows[1],
        alone=alone,
        how=how,
        detail=detail[:300],
        nonce=secrets.token_hex(8) if kind == "attempt" else "",
        **good,  # type: ignore[arg-type]
    )


def record(ledger: Ledger, attempt: Attempt, after: int = 0) -> Attempt:
    """Put an attempt under the next number `after` those that are known to be taken that is free, or poison under its
    row; returns what holds: the first."""
    folder, number = f"{FOLDER}/{unit_id(attempt.shard, attempt.fingerprint)}", after + 1
    data = canonical(attempt.to_json())
    if attempt.kind == "poison":
        key = f"{folder}/poison-{attempt.first:08d}.json"
        if ledger.store.create(key, data):
            return attempt
        return find(ledger.store, key, Attempt, _FIX) or attempt
    while not ledger.store.create(f"{folder}/{number:06d}.json", data):
        number += 1
    return attempt


def recorded(ledger: Ledger) -> Iterator[Attempt]:
    """All attempts there are: one listing, and a small GET for each."""
    keys = (item.key for item in ledger.store.list(FOLDER, etags=False))
    found = map_ordered(lambda key: find(ledger.store, key, Attempt, _FIX), keys)
    return (attempt for attempt in found if attempt is not None)


def poison_of(ledger: Ledger, shard: ShardRef, columns: Sequence[Column]) -> dict[str, dict[int, str]]:
    """By fingerprint, the rows of a unit that its committed tables have set aside. `columns`: the index, then scores.

    What can't be read is not known: two small GETs a table at the most, and nothing is raised.
    """
    index, *others = columns
    found: dict[str, dict[int, str]] = {}
    with suppress(LedgerError):
        table = scores.read(ledger, shard, index, ["reason", "width"])
        rows = zip(*(table.column(name).to_pylist() for name in ("reason", "width")), strict=True)
        found[index.fingerprint] = {n: why for n, (why, width) in enumerate(rows) if why in REASONS and width is None}
    for column in others:
        with suppress(LedgerError):
            poison = scores.record_of(ledger, shard, column).poison
            found[column.fingerprint] = {int(row): why for row, why in poison.items()}
    return found


@dataclass(frozen=True)
class CallSettings:
    """How a call works at its units. `size`: samples in a batch.

    By a column's fingerprint, rows to try `alone`, and rows set aside as `poison`: both of the one unit that the call
    has, since nothing is known of the units of an ordinary call. Rows from `passed` to `until` are tried before the
    pass over the whole unit that commits it.
    """

    size: int
    alone: Mapping[str, Sequence[int]] = field(default_factory=dict)
    poison: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    passed: int = 0
    until: int = -1


@dataclass
class Suspicion:
    """What is known of a unit at which processes died.

    `wide`: deaths with these rows (fingerprint, first, last) in work, together, which no poison among them explains.
    `short`: deaths that Ray brought about because memory was short. `passed`: rows below it were good for all columns
    together, and `good`: for the decoder, at least. `cleared`: (fingerprint, row) that were good alone.
    """

    wide: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    short: int = 0
    passed: int = 0
    good: int = 0
    deaths: Counter[str] = field(default_factory=Counter)  # by fingerprint
    cleared: set[tuple[str, int]] = field(default_factory=set)
    ranges: set[tuple[str, int, int]] = field(default_factory=set)
    alone: Counter[tuple[str, int]] = field(default_factory=Counter)
    poison: dict[str, dict[int, str]] = field(default_factory=dict)

    def note(self, attempt: Attempt) -> None:
        fingerprint, first, last = attempt.fingerprint, attempt.first, attempt.last
        if attempt.kind == "poison":
            self.poison.setdefault(fingerprint, {})[first] = attempt.how
            for rows in list(self.wide):
                if attempt.how != RAISED and rows[0] == fingerprint and rows[1] <= first <= rows[2]:
                    del self.wide[rows]  # it was this sample, not their number
            return
        self.deaths[fingerprint] += 1
        self.learn(attempt.passed, ((fingerprint, row) for row in attempt.cleared))
        self.passed = min(self.passed, first)  # a death among rows that were good before: they are tried again
        if attempt.alone:
            self.alone[fingerprint, first] += 1
        else:
            self.wide[fingerprint, first, last] += 1
            self.ranges.add((fingerprint, first, last))

    def learn(self, passed: int, cleared: Iterable[tuple[str, int]] = ()) -> None:
        """Note rows that a process found to be good."""
        self.passed = max(self.passed, passed)
        self.good = max(self.good, passed)
        self.cleared |= set(cleared)

    def counts(self) -> tuple[int, int]:
        """Samples that are known to be good for something that was tried on them, and samples that are poison."""
        poison = {row for rows in self.poison.values() for row in rows}
        alone = {row for _, row in self.cleared if row >= self.good} - poison
        return self.good - sum(row < self.good for row in poison) + len(alone), len(poison)

    def convicted(self) -> list[tuple[str, int]]:
        """(fingerprint, row) of samples that are poison, and not recorded as such yet."""
        found = ((column, row) for (column, row), deaths in self.alone.items() if deaths >= ALONE)
        return [(column, row) for column, row in found if row not in self.poison.get(column, {})]

    def care(self, size: int) -> CallSettings:
        """For the next attempt: those first that a process died with already, then the rest of what was in work, spread
        out; half the batch for each death that no poison explains, since it may have been the number of samples. Once
        a sample of the unit is poison, all of the unit is tried: there may be more."""
        alone: dict[str, list[int]] = {}
        for column, row in self.alone:
            alone.setdefault(column, []).append(row)
        for column, first, last in sorted(self.ranges):
            rows = (row for row in spread(first, last) if (column, row) not in self.cleared)
            alone.setdefault(column, []).extend(rows)
        left = {
            column: [row for row in dict.fromkeys(rows) if row not in self.poison.get(column, {})]
            for column, rows in alone.items()
        }
        until = WHOLE if self.poison else max((row for rows in left.values() for row in rows), default=-1)
        return CallSettings(max(1, size >> (self.wide.total() + self.short)), left, self.poison, self.passed, until)


def spread(first: int, last: int) -> list[int]:
    """The rows from `first` to `last` (inclusive) so that each beginning of the list is spread over all of them: bad
    ones that stand together, at the beginning of a shard, say, are not taken for all. Van der Corput's order."""
    bits = (last - first).bit_length()
    return sorted(range(first, last + 1), key=lambda row: int(f"{row - first:0{bits}b}"[::-1], 2))
