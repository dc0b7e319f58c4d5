"""Repairs: writes to a store, and the record of them.

    <out>/repairs/<id>/started.json     create-only: the request, and the software versions
    <out>/repairs/<id>/lost.json        create-only: numbers of snapshots that are given up, if there are any
    <out>/repairs/<id>/aside/...        documents as they were before they were replaced or moved aside
    <out>/repairs/<id>.json             create-only: the findings, repaired or not

A repair loses no document: each is copied aside before it is replaced. Damaged data objects (shards, Parquet) are
overwritten in place, because their names determine their content; the finding records their sha256 and size.

Every repair of an object is one atomic put after its copy, so a killed repair can be repeated: repaired objects are
sound, and the others are found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from curation.core.digest import canonical
from curation.core.errors import NotFoundError
from curation.core.software import software
from curation.curating.verification.findings import Finding
from curation.ledger.lost_snapshots import REPAIRS
from curation.storage.store import Store


@dataclass(frozen=True)
class RepairWriter:
    """Writes rebuilt objects; without an `id` it is dry and writes nothing. Picklable, so that it can go to tasks."""

    out: Store
    id: str = ""

    def put(self, store: Store, key: str, data: bytes, *, aside: bool = True) -> bool:
        """Replace a damaged object, copied aside first unless `aside` is false. Returns whether it was written."""
        if self.id:
            if aside:
                self._keep(store, key)
            store.put(key, data)
        return bool(self.id)

    def put_file(self, store: Store, key: str, path: Path) -> bool:
        """Replace a damaged data object by a file. Returns whether it was written."""
        if self.id:
            store.put_file(key, path)
        return bool(self.id)

    def take_out(self, store: Store, key: str) -> bool:
        """Copy an object aside, then delete it. Returns whether it was deleted."""
        if self.id:
            self._keep(store, key)
            store.delete(key)
        return bool(self.id)

    def give_up(self, lost: Sequence[range]) -> None:
        """Record that numbers of snapshots are given up, before any other write depends on it."""
        if self.id and lost:
            self.out.create(f"{REPAIRS}/{self.id}/lost.json", canonical({"lost": _short(lost)}))

    def _keep(self, store: Store, key: str) -> None:
        folder = "aside" if store.url == self.out.url else "aside/scores"
        with suppress(NotFoundError):
            self.out.create(f"{REPAIRS}/{self.id}/{folder}/{key}", store.get(key))


def dry_run(out: Store) -> RepairWriter:
    """Return a repair writer that writes nothing."""
    return RepairWriter(out)


def begin_repair(out: Store, snapshot: int) -> RepairWriter:
    """Begin a repair: record it and return its writer. Its id sorts by time; no decision depends on a clock."""
    moment = datetime.now(UTC)
    writer = RepairWriter(out, f"{moment:%Y%m%dT%H%M%SZ}-{token_hex(4)}")
    document = {"snapshot": snapshot, "started": moment.isoformat(timespec="seconds"), "software": software()}
    out.create(f"{REPAIRS}/{writer.id}/started.json", canonical(document))
    return writer


def finish_repair(writer: RepairWriter, snapshot: int, findings: Sequence[Finding], lost: Sequence[range]) -> str:
    """Write the record of a repair and return its key.

    `lost`: numbers of snapshots that the user has given up; the record has a single number, or the first and the last
    one of a range.
    """
    done, left = ([item.to_json() for item in findings if item.mended is mended] for mended in (True, False))
    document = {"snapshot": snapshot, "mended": done, "not_mended": left, "lost": _short(lost)}
    key = f"{REPAIRS}/{writer.id}.json"
    writer.out.create(key, canonical(document))
    return key


def _short(lost: Sequence[range]) -> list[int | list[int]]:
    return [numbers[0] if len(numbers) == 1 else [numbers[0], numbers[-1]] for numbers in lost]
