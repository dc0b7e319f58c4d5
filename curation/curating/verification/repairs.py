"""What a repair does to a store, and the record that it leaves.

    <out>/repairs/<id>/started.json     create-only: what was asked for, and by which software
    <out>/repairs/<id>/lost.json        create-only: numbers of snapshots that are given up, if there are any
    <out>/repairs/<id>/aside/...        documents as they were before they were replaced or taken out
    <out>/repairs/<id>.json             create-only: what was found, what was done, what could not be done

Nothing that a repair replaces is lost: documents are copied aside first. Damaged data objects (shards, Parquet) are
overwritten where they lie, since their names say what they should hold; their sha256 and size go into the finding.

Every repair of an object is one atomic put after its copy, so a repair that is killed can be repeated: what it has
mended is sound by then, and what it has not is found again.
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
class Mender:
    """Puts what was rebuilt; one without an `id` is dry and puts nothing. Picklable, so that tasks can each have it."""

    out: Store
    id: str = ""

    def put(self, store: Store, key: str, data: bytes, *, aside: bool = True) -> bool:
        """Put an object in the place of a damaged one. Returns whether it was done."""
        if self.id:
            if aside:
                self._keep(store, key)
            store.put(key, data)
        return bool(self.id)

    def put_file(self, store: Store, key: str, path: Path) -> bool:
        """Put a data object from a file."""
        if self.id:
            store.put_file(key, path)
        return bool(self.id)

    def take_out(self, store: Store, key: str) -> bool:
        """Delete an object, once it is copied aside."""
        if self.id:
            self._keep(store, key)
            store.delete(key)
        return bool(self.id)

    def give_up(self, lost: Sequence[range]) -> None:
        """Write down that the numbers of snapshots are given up, before anything tells that they are not there."""
        if self.id and lost:
            self.out.create(f"{REPAIRS}/{self.id}/lost.json", canonical({"lost": _short(lost)}))

    def _keep(self, store: Store, key: str) -> None:
        folder = "aside" if store.url == self.out.url else "aside/scores"
        with suppress(NotFoundError):
            self.out.create(f"{REPAIRS}/{self.id}/{folder}/{key}", store.get(key))


def dry(out: Store) -> Mender:
    """A mender that puts nothing."""
    return Mender(out)


def started(out: Store, snapshot: int) -> Mender:
    """Begin a repair: a mender with a name of its own, which sorts by time. Clocks decide nothing else."""
    moment = datetime.now(UTC)
    mender = Mender(out, f"{moment:%Y%m%dT%H%M%SZ}-{token_hex(4)}")
    document = {"snapshot": snapshot, "started": moment.isoformat(timespec="seconds"), "software": software()}
    out.create(f"{REPAIRS}/{mender.id}/started.json", canonical(document))
    return mender


def finished(mender: Mender, snapshot: int, findings: Sequence[Finding], lost: Sequence[range]) -> str:
    """Leave the record of a repair; returns its key. `lost`: numbers of snapshots that the user has given up, each a
    number in the record, or a pair of the first and the last one where they are many."""
    done, left = ([item.to_json() for item in findings if item.mended is mended] for mended in (True, False))
    document = {"snapshot": snapshot, "mended": done, "not_mended": left, "lost": _short(lost)}
    key = f"{REPAIRS}/{mender.id}.json"
    mender.out.create(key, canonical(document))
    return key


def _short(lost: Sequence[range]) -> list[int | list[int]]:
    return [numbers[0] if len(numbers) == 1 else [numbers[0], numbers[-1]] for numbers in lost]
