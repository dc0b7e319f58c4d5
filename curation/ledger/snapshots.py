"""The snapshots of a ledger: find, open and create them, each with a number that no other snapshot gets.

A create-only put of `snapshots/<number>.json` decides which of several drivers gets a number; the others rebase.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from curation.core.digest import canonical
from curation.core.errors import LedgerError, LostSnapshotError, NoSnapshotError, NotFoundError
from curation.ledger import lost_snapshots
from curation.ledger.conservation import check_conservation
from curation.ledger.documents import RESTORE, SnapshotDocument, parse
from curation.ledger.snapshot_keys import (
    LAST,
    hint,
    numbers_there,
    raw_object,
    snapshot_key,
    snapshot_number,
    urls_key,
)
from curation.storage.store import Store


class Snapshots:
    """The snapshots below one URL. Holds nothing but the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def latest(self) -> int:
        """Return the newest snapshot's number, 0 without any: walk from the hint forward until a document is missing.

        An outdated hint costs reads; without a hint the documents are listed. One more request checks whether the
        number after the newest was used. Raises `LostSnapshotError` for a number that was used, whose document is gone
        and that was not given up: every run writes the document before the hint and the list of shards.
        """
        number = hint(self.store) or 0
        if number and not self._has_snapshot(number):
            if not any(number in given for given in lost_snapshots.given_up(self.store)):
                raise lost_snapshots.lost_error(self.store, number, f"LATEST names @{number}")
            number = 0
        number = number or max(numbers_there(self.store), default=0)
        while (following := self._following(number)) is not None:
            number = following
        return number

    def _following(self, number: int) -> int | None:
        """Return the number of the next snapshot; None after the newest."""
        following = number + 1
        if self._has_snapshot(following):
            return following
        if not self.store.exists(urls_key(following)):
            return None
        if self._has_snapshot(following):
            return following  # another driver created it between the two requests
        given = lost_snapshots.next_number(number, lost_snapshots.given_up(self.store))
        if given != following and (self._has_snapshot(given) or not self.store.exists(urls_key(given))):
            return given if self._has_snapshot(given) else None
        raise lost_snapshots.lost_error(self.store, given, f"{urls_key(given)} exists")

    def snapshot(self, number: int | None = None) -> SnapshotDocument:
        """Return the document of snapshot `number`, or of the latest.

        Raises `NoSnapshotError` if there is none, and `LedgerError` if it is damaged or lost.
        """
        wanted = self.latest() if number is None else number
        try:
            return read_snapshot(self.store, snapshot_key(wanted))
        except NotFoundError:
            raise self._missing(wanted if number else None) from None

    def _missing(self, number: int | None) -> NoSnapshotError | LostSnapshotError:
        """Return the error for a number without a document; None means that there is no snapshot at all."""
        latest = self.latest()
        fix = f"the latest is @{latest}" if latest else "`curate run` creates one"
        if number is None:
            return NoSnapshotError(f"no snapshot in {self.store.url}", fix=fix)
        if any(number in given for given in lost_snapshots.given_up(self.store)):
            return NoSnapshotError(
                f"snapshot @{number} of {self.store.url} was lost, and given up in a repair", fix=fix
            )
        if self.store.exists(urls_key(number)):
            return lost_snapshots.lost_error(self.store, number, f"{urls_key(number)} exists")
        return NoSnapshotError(f"no snapshot @{number} in {self.store.url}", fix=fix)

    def publish(self, snapshot: SnapshotDocument) -> None:
        """Write `urls/<number>.txt` and LATEST for a snapshot if they are missing or outdated.

        The process that created the snapshot may have died before writing them. The list is written first, because it
        shows that the number is used.
        """
        key = urls_key(snapshot.snapshot)
        if not self.store.exists(key):
            with suppress(NotFoundError):  # the list's data object is missing: `curate verify` reports it
                self.store.create(key, self.store.get(snapshot.urls.key))
        if hint(self.store) != snapshot.snapshot:
            self.store.put("LATEST", str(snapshot.snapshot).encode())

    def create_snapshot(self, document: Mapping[str, Any]) -> SnapshotDocument:
        """Create the next snapshot and publish it; if another driver took the number, rebase onto its snapshot.

        `document` has no number and no parent yet. The caller has checked that every unit's counts balance and that
        uids are unique. Returns the other driver's snapshot if it has the same content. Raises `LostSnapshotError` if a
        number above the latest was used and its document is gone: no other snapshot gets that number.
        """
        check_conservation(document["samples"])
        while True:
            parent = max([self.latest(), *numbers_there(self.store)])
            if parent and _same_content(earlier := self.snapshot(parent), document):
                self.publish(earlier)
                return earlier  # the other driver ran the same recipe
            number = self._unused(parent)
            snapshot = {**document, "snapshot": number, "parent": parent or None}
            made = parse(canonical(snapshot), SnapshotDocument, "the snapshot to be made", "")
            if self.store.create(snapshot_key(number), canonical(snapshot)):
                self.publish(made)
                return made

    def _unused(self, parent: int) -> int:
        """Return the number of the next snapshot. Cost: a few listings, and the records of repairs."""
        for lost in lost_snapshots.lost_numbers(self.store):
            if lost.numbers[-1] > parent:
                raise lost_snapshots.lost_error(self.store, lost.numbers[0], lost.evidence)
        number = lost_snapshots.next_number(parent, lost_snapshots.given_up(self.store))
        if number > LAST:
            fix = "write to another output or, if its number is wrong, move that document out of `snapshots/`"
            raise LedgerError(f"{self.store.url} has no free number after snapshot @{parent}", fix=fix)
        return number

    def _has_snapshot(self, number: int) -> bool:
        return self.store.exists(snapshot_key(number))


def _same_content(left: SnapshotDocument, right: Mapping[str, Any]) -> bool:
    """Whether two drivers made the same decisions: their object names and Parquet bytes may differ (nonce, Arrow)."""
    return (left.decision_id, left.plan) == (right["decision_id"], right["plan"])


def read_snapshot(store: Store, key: str) -> SnapshotDocument:
    """Read the document of a snapshot at `key`. Raises `NotFoundError`, and `LedgerError` if it is damaged."""

    def checked(data: bytes) -> SnapshotDocument:
        return parse(data, SnapshotDocument, store.location(key), _snapshot_fix(store, key, data))

    return store.get_parsed(key, checked)


def _snapshot_fix(store: Store, key: str, data: bytes) -> str:
    """Return the fix for a damaged document, whose bytes are `data`."""
    root, number = store.url.removeprefix("file://"), snapshot_number(key)
    if not number:
        return f"`curate repair {root} --apply` moves it aside"
    if raw_object(data) is None:
        return lost_snapshots.lost_fix(store)
    return f"`curate repair {root}@{number} --apply` restores the fields that follow from others; otherwise {RESTORE}"
