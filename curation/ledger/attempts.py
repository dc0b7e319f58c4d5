"""Records of attempts that killed a process, so that a sample that kills processes costs only itself.

    <scores>/attempts/<unit_id>/<000001>.json              create-only: rows in work when a process died
    <scores>/attempts/<unit_id>/poison-<00000017>.json     create-only: a row that is set aside, and why

`unit_id` is that of the shard under the fingerprint of a column: a scorer's, or the index's for the decoder. A sample
is *poison* if two processes died while it alone was in work, or if a scorer raises for it alone. A unit without deaths
costs no object and no request: a run that has something to score lists all attempts once, at its start. An attempt that
the listing misses costs one more death, never a sample.

An attempt also records the rows that its process found to be good, so that no later attempt repeats them: k samples
that kill processes cost at most 3 k deaths, and each sample is tried alone at most once.
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
from curation.ledger import score_tables
from curation.ledger.documents.base import Count, Document, Text, find
from curation.ledger.documents.ledger import PoisonReason, UnscoredReason
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.score_tables import Column

FOLDER = "attempts"
How = PoisonReason
DIED: How = "poison_died"
HUNG: How = "poison_hung"
RAISED: How = "poison_raised"
REASONS = {
    DIED: "two processes died with this sample alone in work (a crash, an exit, out of memory)",
    HUNG: "two processes worked on this sample alone for longer than compute.batch_timeout",
    RAISED: "a scorer or the decoder raises an error for this sample",
}
#: Why a scorer gives a sample no value, without an attempt that failed.
UNSCORED: dict[UnscoredReason, str] = {
    "no_label": "the json has no such field, or an empty one",
    "bad_label": "the label is a list, or votes that are negative, not finite or without a sum",
    "unknown_class": "the label, or a class with votes, is not a class of the model or table",
    "no_probabilities": "the table of probabilities has no row for the sample's uid",
    "bad_probabilities": "the sample's probabilities are negative, not finite, not one a class, or don't sum to 1",
}
WHOLE = 1 << 62  # a row beyond the last row of every unit
ALONE = 2  # deaths with one sample in work after which it is set aside: a single one may have an external cause
_FIX = "delete it: the next run finds again what it records"


class Attempt(Document):
    """A death with rows `first` to `last` (inclusive) of a unit in work, or the finding that one row is poison."""

    kind: Literal["attempt", "poison"]
    key: Text
    size: Count
    etag: str
    column: Text
    fingerprint: Text
    first: Count
    last: Count
    alone: bool = False  # only that one row was in work
    how: How
    detail: str = ""
    passed: Count = 0  # all rows below it passed the decoder and all scorers in that process
    cleared: list[Count] = Field(default_factory=list)  # rows that the scorer of `column` survived, each tried alone
    nonce: str = ""  # distinguishes two deaths that are otherwise equal: a create of equal bytes counts as done

    @property
    def shard(self) -> ShardRef:
        """The shard of the unit."""
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
    """Return the record of a death (`kind` "attempt") or of a poisonous row (`kind` "poison"; `rows` is then one row).

    `rows`: first and last row in work. `detail` is cut at 300 characters. `passed` and `cleared`: see `Attempt`.
    """
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
    """Put an attempt under the first free number above `after`, or poison under its row.

    Returns the record that counts, which is an earlier one if the row is already recorded as poison.
    """
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
    """Yield all recorded attempts. Cost: one listing, and a small GET for each."""
    keys = (item.key for item in ledger.store.list(FOLDER, etags=False))
    found = map_ordered(lambda key: find(ledger.store, key, Attempt, _FIX), keys)
    return (attempt for attempt in found if attempt is not None)


def poison_of(ledger: Ledger, shard: ShardRef, columns: Sequence[Column]) -> dict[str, dict[int, str]]:
    """Return fingerprint -> row -> reason for the rows that a unit's committed tables have set aside.

    `columns`: the index, then scores. Tables that can't be read are skipped, without an error. Cost: at most two small
    GETs a table.
    """
    index, *others = columns
    found: dict[str, dict[int, str]] = {}
    with suppress(LedgerError):
        table = score_tables.read(ledger, shard, index, ["reason", "width"])
        rows = zip(*(table.column(name).to_pylist() for name in ("reason", "width")), strict=True)
        found[index.fingerprint] = {n: why for n, (why, width) in enumerate(rows) if why in REASONS and width is None}
    for column in others:
        with suppress(LedgerError):
            poison = score_tables.record_of(ledger, shard, column).poison
            found[column.fingerprint] = {int(row): why for row, why in poison.items()}
    return found


@dataclass(frozen=True)
class CallSettings:
    """How a call processes its units. `size`: samples in a batch.

    `alone` (fingerprint -> rows to try alone) and `poison` (fingerprint -> row -> reason) belong to the single unit of
    a call that isolates bad samples; both are empty for an ordinary call. Rows from `passed` to `until` are tried
    before the pass over the whole unit, which commits it.
    """

    size: int
    alone: Mapping[str, Sequence[int]] = field(default_factory=dict)
    poison: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    passed: int = 0
    until: int = -1


@dataclass
class Suspicion:
    """What is known about a unit on which processes died.

    `wide`: deaths by the rows (fingerprint, first, last) in work together, as far as no poison among them explains
    them. `short`: deaths caused by Ray because memory was short. `passed`: all rows below it were good for all columns;
    `good`: for the decoder at least. `cleared`: (fingerprint, row) of rows that were good alone.
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
        """Add a recorded attempt."""
        fingerprint, first, last = attempt.fingerprint, attempt.first, attempt.last
        if attempt.kind == "poison":
            self.poison.setdefault(fingerprint, {})[first] = attempt.how
            for rows in list(self.wide):
                if attempt.how != RAISED and rows[0] == fingerprint and rows[1] <= first <= rows[2]:
                    del self.wide[rows]  # this sample caused the death, not the size of the batch
            return
        self.deaths[fingerprint] += 1
        self.learn(attempt.passed, ((fingerprint, row) for row in attempt.cleared))
        self.passed = min(self.passed, first)  # a death among rows that had been good: they are tried again
        if attempt.alone:
            self.alone[fingerprint, first] += 1
        else:
            self.wide[fingerprint, first, last] += 1
            self.ranges.add((fingerprint, first, last))

    def learn(self, passed: int, cleared: Iterable[tuple[str, int]] = ()) -> None:
        """Add rows that a process found to be good: all below `passed`, and `cleared` (fingerprint, row)."""
        self.passed = max(self.passed, passed)
        self.good = max(self.good, passed)
        self.cleared |= set(cleared)

    def counts(self) -> tuple[int, int]:
        """Return the number of samples that passed some trial, and the number of poisonous samples."""
        poison = {row for rows in self.poison.values() for row in rows}
        alone = {row for _, row in self.cleared if row >= self.good} - poison
        return self.good - sum(row < self.good for row in poison) + len(alone), len(poison)

    def convicted(self) -> list[tuple[str, int]]:
        """Return (fingerprint, row) of the samples that are poison but not yet recorded as such."""
        found = ((column, row) for (column, row), deaths in self.alone.items() if deaths >= ALONE)
        return [(column, row) for column, row in found if row not in self.poison.get(column, {})]

    def care(self, size: int) -> CallSettings:
        """Return the settings of the next attempt, from the ordinary batch `size`.

        Rows that a process already died with are tried first, then the other rows that were in work, spread out. Each
        death that no poison explains halves the batch, because the number of samples may be the cause. Once a sample is
        poison, the whole unit is tried, because there may be more.
        """
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
    """Return the rows from `first` to `last` (inclusive) in van der Corput's order.

    Every prefix of the list is spread over all rows, so that adjacent bad rows, such as those at the start of a shard,
    are not mistaken for all rows.
    """
    bits = (last - first).bit_length()
    return sorted(range(first, last + 1), key=lambda row: int(f"{row - first:0{bits}b}"[::-1], 2))
