"""LATEST and the chain of snapshots: dense from 1, each the child of the one before, none a copy.

Cost: one listing of `snapshots/` and one small GET a snapshot. Here a listing is right: what is checked is what is
there, and the answer commits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pydantic_core import from_json

from curation.errors import NotFoundError
from curation.ledger import canonical, digest, snapshot_key, snapshot_number
from curation.parallel import map_ordered
from curation.store import Store
from curation.verification.findings import Finding, fields_differ
from curation.verification.repairs import Mender, lost_numbers

MOST_LOST = 1_000  # numbers in a row; a dataset that lost more is rather one with a wrong number
_TOO_MANY = (
    "the number after them is wrong: set LATEST to the newest snapshot, or move that document out of `snapshots/`"
)

Documents = Mapping[int, dict[str, Any] | None]


def numbers_there(out: Store) -> list[int]:
    """The numbers of all snapshots whose documents are there, damaged ones too; sorted."""
    keys = [item.key for item in out.list("snapshots", etags=False)]
    return sorted(number for key in keys if (number := snapshot_number(key)) and snapshot_key(number) == key)


def read_raw(out: Store, number: int) -> dict[str, Any] | None:
    """The JSON of a snapshot's document as it is there, right or wrong; None for one that is gone or is no object."""
    try:
        found = from_json(out.get(snapshot_key(number)), allow_inf_nan=False)  # as strict as who opens it
    except (NotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found else None


@dataclass
class ChainCheck:
    """Checks LATEST and the documents of all snapshots as a chain. `accept_loss`: numbers whose documents are gone are
    given up, which a repair writes down (`given_up`)."""

    out: Store
    mend: Mender
    accept_loss: bool = False
    given_up: list[int] = field(default_factory=list)

    @property
    def lost(self) -> str:
        """What to do about a document that nothing can be rebuilt from."""
        root = self.out.url.removeprefix("file://")
        give_up = f"give the number up: `curate repair {root} --accept-loss --apply`"
        return f"its recipe is lost with it: restore it from a backup, or {give_up}"

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong."""
        out = self.out
        yield from self._foreign()
        there = numbers_there(out)
        documents = dict(zip(there, map_ordered(lambda one: read_raw(out, one), there), strict=True))
        for number in [number for number, raw in documents.items() if raw is None]:
            yield self._lost(number, "is not the JSON of a snapshot", take_out=True)
        sound = [number for number, raw in documents.items() if raw is not None]
        yield from self._latest(max(there if not self.given_up else sound, default=0))
        for gap in _gaps([0, *sorted({*there, *lost_numbers(out)} if there else ())], max(there, default=0)):
            yield from self._gap(gap, "is gone, between others")
        for before, number in zip([0, *sound], sound, strict=False):
            yield from self._linked(number, documents, before, newest=number == there[-1])

    def _foreign(self) -> Iterator[Finding]:
        for item in self.out.list("snapshots", etags=False):
            if item.key != snapshot_key(snapshot_number(item.key)):
                where, done = self.out.location(item.key), self.mend.take_out(self.out, item.key)
                yield Finding("foreign", where, "is not named like a snapshot", "it is moved aside").done(done)

    def _lost(self, number: int, what: str, *, take_out: bool = False) -> Finding:
        where = self.out.location(snapshot_key(number))
        if not self.accept_loss:
            return Finding("snapshot_lost", where, what, "", self.lost)
        done = not take_out or self.mend.take_out(self.out, snapshot_key(number))
        if done and self.mend.id:
            self.given_up.append(number)
        return Finding("snapshot_lost", where, what, "it is given up: its number stays empty").done(bool(self.mend.id))

    def _gap(self, gap: range, what: str) -> Iterator[Finding]:
        """Numbers without a document, one by one; too many to be lost ones are one finding, and are not given up."""
        if len(gap) <= MOST_LOST:
            yield from (self._lost(number, what) for number in gap)
            return
        where = self.out.location(snapshot_key(gap[0]))
        yield Finding("snapshot_lost", where, f"{what}, and so are all of @{gap[0]} to @{gap[-1]}", "", _TOO_MANY)

    def _latest(self, newest: int) -> Iterator[Finding]:
        try:
            text = self.out.get("LATEST").decode(errors="replace")
        except NotFoundError:
            text = ""
        hint = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
        if hint == newest or (not newest and not self.mend.id):
            return
        if hint is not None and hint > newest and self.out.exists(snapshot_key(hint)):
            return  # a run has just made it
        if hint is not None and hint > newest:
            known = sorted({number for number in self.given_up if newest < number <= hint})
            for gap in _gaps([newest, *known, hint + 1], hint + 1):
                what = f"is gone, though LATEST names @{hint}; the newest that is there is @{newest}"
                yield from self._gap(gap, what)
            if self.accept_loss and newest and hint - newest <= MOST_LOST:
                self._point_at(newest)
            return
        what = f"names @{hint}" if hint is not None else "is not a number" if text else "is gone"
        finding = Finding("latest", self.out.location("LATEST"), f"{what}; the newest snapshot is @{newest}",
                          f"it names @{newest} again")  # fmt: skip
        yield finding.done(self._point_at(newest))

    def _point_at(self, number: int) -> bool:
        return self.mend.put(self.out, "LATEST", str(number).encode())

    def _linked(self, number: int, documents: Documents, before: int, *, newest: bool) -> Iterator[Finding]:
        """What is wrong with a document beside others. Its number and its parent follow from its place."""
        where, raw = self.out.location(snapshot_key(number)), documents[number] or {}
        named = [one for one in (before, raw.get("snapshot")) if isinstance(one, int)]
        twins = [one for one in dict.fromkeys(named) if one != number]
        for twin in twins:
            if (other := documents.get(twin)) and _same_content(raw, other):
                yield self._copy(number, twin, before, newest=newest)
                return
        right = {**raw, "snapshot": number, "parent": number - 1 or None}
        if wrong := [name for name in ("snapshot", "parent") if raw.get(name, "") != right[name]]:
            what = fields_differ(wrong, "its place in the chain")
            done = self.mend.put(self.out, snapshot_key(number), canonical(right))
            yield Finding("document", where, what, "they are set to its place").done(done)

    def _copy(self, number: int, twin: int, before: int, *, newest: bool) -> Finding:
        where = self.out.location(snapshot_key(number))
        what = f"is a copy of @{twin}: only `snapshot` and `parent` may differ from it"
        if not newest:
            return Finding("copy", where, what, "", f"later snapshots follow it: {self.lost}")
        done = self._point_at(before) and self.mend.take_out(self.out, snapshot_key(number))
        return Finding("copy", where, what, f"it is moved aside, and LATEST names @{before}").done(done)


def _gaps(numbers: Sequence[int], last: int) -> Iterator[range]:
    """What lies between sorted numbers, up to `last`, as ranges that are not empty."""
    for one, other in pairwise(numbers):
        if one + 1 < other <= last:
            yield range(one + 1, other)


def _same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two documents are equal but for their places: no run appends what the latest snapshot already is."""
    return {**one, "snapshot": 0, "parent": 0} == {**other, "snapshot": 0, "parent": 0}


def recipe_differs(raw: Mapping[str, Any]) -> bool:
    """Whether a document's recipe is not what its `recipe_sha256` says."""
    return digest(raw.get("recipe")) != raw.get("recipe_sha256")
