"""Checks of LATEST and of the chain of snapshots: consecutive numbers from 1, right parents, no copies.

Cost: one listing each of `snapshots/`, `urls/`, `evaluations/` and `repairs/`, and one small GET a snapshot. Listings
are safe here: the check is about the existing objects, and its result commits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.core.digest import canonical, digest
from curation.core.errors import NotFoundError
from curation.core.parallel import map_ordered
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.lost_snapshots import MOST_LOST, claimed, given_up, lost_fix, lost_numbers, parents
from curation.ledger.snapshot_keys import HINT, numbers_there, read_raw, snapshot_key, snapshot_number, urls_number
from curation.storage.store import Store

_FAR = f"more than {MOST_LOST:,} ahead of the existing snapshots"

Documents = Mapping[int, dict[str, Any] | None]


@dataclass
class ChainCheck:
    """Check of LATEST and of the documents of all snapshots as a chain.

    `accept_loss`: give up the numbers whose documents are missing; a repair records them (`given_up`).
    """

    out: Store
    repairs: RepairWriter
    accept_loss: bool = False
    given_up: list[range] = field(default_factory=list)

    def findings(self) -> Iterator[Finding]:
        """Yield all findings, repaired unless the repair writer is dry."""
        out = self.out
        there = numbers_there(out)
        yield from self._foreign(there)
        documents = dict(zip(there, map_ordered(lambda one: read_raw(out, one), there), strict=True))
        for number in [number for number, raw in documents.items() if raw is None]:
            yield self._lost(range(number, number + 1), "is not the JSON of a snapshot", take_out=True)
        sound = [number for number, raw in documents.items() if raw is not None]
        newest = max(there, default=0)
        for lost in lost_numbers(out, there):
            later = lost.numbers.start < newest
            what = "is missing, though later snapshots exist" if later else f"is missing, though {lost.evidence}"
            few = len(lost.numbers) <= MOST_LOST
            for numbers in [range(n, n + 1) for n in lost.numbers] if few else [lost.numbers]:
                yield self._lost(numbers, what)
        self.repairs.give_up(self.given_up)
        yield from self._latest(max(sound if self.given_up else there, default=0))
        given = given_up(out) if len(there) < newest else []
        for before, number in zip([0, *sound], sound, strict=False):
            yield from self._linked(number, documents, before, given, newest=number == newest)

    def _foreign(self, there: Sequence[int]) -> Iterator[Finding]:
        """Yield objects with names that no run creates: neither a snapshot nor a list of shards."""
        for item in self.out.list("snapshots", etags=False):
            if not snapshot_number(item.key):
                yield self._moved(item.key, "is not named like a snapshot")
        newest = max([*there, *claimed(self.out, there)], default=0)
        for item in self.out.list("urls", etags=False):
            if not (number := urls_number(item.key)):
                yield self._moved(item.key, "is not named like a snapshot's list of shards")
            elif number > newest:
                yield self._moved(item.key, f"belongs to no snapshot: its number is {_FAR}")

    def _moved(self, key: str, what: str) -> Finding:
        done = self.repairs.take_out(self.out, key)
        return Finding("foreign", self.out.location(key), what, "it is moved aside").done(done)

    def _lost(self, numbers: range, what: str, *, take_out: bool = False) -> Finding:
        where = self.out.location(snapshot_key(numbers[0]))
        if many := len(numbers) > 1:
            what += f", as are all snapshots from @{numbers[0]} to @{numbers[-1]}"
        if not self.accept_loss:
            wrong = "; if the number after them is wrong, move its document out of `snapshots/`" if many else ""
            return Finding("snapshot_lost", where, what, "", lost_fix(self.out) + wrong)
        done = not take_out or self.repairs.take_out(self.out, snapshot_key(numbers[0]))
        if done and self.repairs.id:
            self.given_up.append(numbers)
        how = "they are given up: their numbers stay unused" if many else "it is given up: its number stays unused"
        return Finding("snapshot_lost", where, what, how).done(bool(self.repairs.id))

    def _latest(self, newest: int) -> Iterator[Finding]:
        """Compare LATEST with the newest existing snapshot."""
        try:
            text = self.out.get("LATEST")
        except NotFoundError:
            text = b""
        hint = int(text) if HINT.fullmatch(text) else None
        if hint == newest or (not newest and not text):
            return
        if hint is not None and hint > newest and self.out.exists(snapshot_key(hint)):
            return  # a run has just created it
        how = f"it is set to @{newest}" if newest else "it is moved aside"
        where, newest_is = self.out.location("LATEST"), f"the newest snapshot is @{newest}"
        if hint is None or hint < newest:
            what = (
                f"names @{hint}" if hint is not None else "is not a number as runs write it" if text else "is missing"
            )
            yield Finding("latest", where, f"{what}; {newest_is}", how).done(self._point_at(newest))
        elif self.accept_loss:
            yield Finding("latest", where, f"names @{hint}; {newest_is}", how).done(self._point_at(newest))
        elif hint > newest + MOST_LOST:
            yield Finding("latest", where, f"names @{hint}, {_FAR}; {newest_is}", "", lost_fix(self.out))

    def _point_at(self, number: int) -> bool:
        if not number:
            return self.repairs.take_out(self.out, "LATEST")
        return self.repairs.put(self.out, "LATEST", str(number).encode())

    def _linked(
        self, number: int, documents: Documents, before: int, given: Sequence[range], *, newest: bool
    ) -> Iterator[Finding]:
        """Compare a document with its neighbours: its number and its parent follow from its place in the chain."""
        where, raw = self.out.location(snapshot_key(number)), documents[number] or {}
        named = [one for one in (before, raw.get("snapshot")) if isinstance(one, int)]
        twins = [one for one in dict.fromkeys(named) if one != number]
        for twin in twins:
            if (other := documents.get(twin)) and _same_content(raw, other):
                yield self._copy(number, twin, before, newest=newest)
                return
        right = {**raw, **place(raw, number, given)}
        if wrong := differing({name: right[name] for name in ("snapshot", "parent")}, raw):
            what = fields_differ(wrong, "its place in the chain")
            done = self.repairs.put(self.out, snapshot_key(number), canonical(right))
            yield Finding("document", where, what, "the fields are set by its place").done(done)

    def _copy(self, number: int, twin: int, before: int, *, newest: bool) -> Finding:
        where = self.out.location(snapshot_key(number))
        what = f"is a copy of @{twin}: no field but `snapshot` and `parent` differs"
        if not newest:
            return Finding("copy", where, what, "", f"later snapshots depend on it: {lost_fix(self.out)}")
        done = self._point_at(before) and self.repairs.take_out(self.out, snapshot_key(number))
        return Finding("copy", where, what, f"it is moved aside, and LATEST is set to @{before}").done(done)


def place(raw: Mapping[str, Any], number: int, given: Sequence[range]) -> dict[str, Any]:
    """The fields `snapshot` and `parent` of a document that follow from its number.

    The parent is the number before, or the last one before that was not given up when the snapshot was created.
    """
    right = parents(number, given)
    found = raw.get("parent", 0)
    return {"snapshot": number, "parent": found if found in right and not isinstance(found, bool) else right[-1]}


def _same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two documents differ only in `snapshot` and `parent`: no run appends an equal snapshot."""
    return {**one, "snapshot": 0, "parent": 0} == {**other, "snapshot": 0, "parent": 0}


def recipe_differs(raw: Mapping[str, Any]) -> bool:
    """Whether the hash of a document's recipe differs from its `recipe_sha256`."""
    return digest(raw.get("recipe")) != raw.get("recipe_sha256")
