"""The ledger: plans, commit records and snapshots on an object store, written once and never changed.

    <root>/plans/<plan_id>.json, <root>/plans/pages/<sha256 of its rows>.parquet
    <root>/units/<unit_id>.json                     the commit record of one unit of work
    <root>/data/<unit_id>-<sha>-<nonce>.<suffix>    what no record and no snapshot names is garbage
    <root>/snapshots/<000042>.json                  numbered from 1; a number is used once (see `snapshots`)
    <root>/urls/<000042>.txt                        the keys of a snapshot's shards, one a line, for other programs;
                                                    put after the document and before LATEST
    <root>/LATEST                                   a hint; a wrong one costs reads, never correctness

The protocol of a worker: `find` the record; do the work; `put_data`; `commit` with a create-only put. The first record
wins and every driver uses the objects it names, so two drivers on one root are safe and at worst do double work. No
commit depends on a listing, a rename, a lock or a clock.

Cost: one small GET to find a unit done; one data PUT and one create-only PUT to commit it. A plan of 1 million shards
is 100 pages; a page of 10,000 shards is about 1 MB and is all that is ever in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import canonical, digest
from curation.core.errors import (
    LedgerError,
    NotFoundError,
)
from curation.core.types import ShardRef
from curation.ledger.conservation import check_conservation
from curation.ledger.documents import (
    RESCORE,
    DataObject,
    PlanDocument,
    ScoreRecord,
    WriteRecord,
    find,
    parse,
    read,
)
from curation.ledger.owners import repair_of
from curation.ledger.plans import PAGE_UNITS, Plan, rows_sha256
from curation.ledger.snapshots import Snapshots
from curation.storage.parquet import rebatch, to_parquet
from curation.storage.store import Piece

R = TypeVar("R", ScoreRecord, WriteRecord)


def unit_id(shard: ShardRef, fingerprint: str, *, start: int = 0, stop: int | None = None) -> str:
    """Return the id of a unit of work: sha256 of the shard's key, etag, byte range and the fingerprint, as hex.

    `start` and `stop` are in bytes; None means the end of the shard.
    """
    return digest([shard.key, shard.etag, start, shard.size if stop is None else stop, fingerprint])


class Ledger(Snapshots):
    """Plans, records and snapshots below one URL. Cheap to create and to pickle: it holds only the store."""

    # --- plans ------------------------------------------------------------------------------------------------

    def plan(self, batches: Iterable[pa.RecordBatch], context: Mapping[str, Any]) -> Plan:
        """Create the plan for shards that arrive sorted by key, as Arrow batches of (key, size, etag).

        Pages are named by their rows, so planning an unchanged corpus again puts nothing new, with any version of
        Arrow. `context` (the corpus and the fingerprints) becomes part of the id. For a dry run, plan into a ledger on
        local disk.
        """
        pages, units, total = [], 0, 0
        for table in map(pa.Table.combine_chunks, rebatch(batches, PAGE_UNITS)):
            key = f"plans/pages/{rows_sha256(table)}.parquet"
            if not self.store.exists(key):
                self.store.put(key, to_parquet(table))
            pages.append({"key": key, "units": table.num_rows})
            units += table.num_rows
            total += pc.sum(table.column("size")).as_py()
        document = {**context, "pages": pages, "units": units, "bytes": total}
        key = f"plans/{digest(document)}.json"
        self._create(key, document)
        return Plan(self.store, digest(document), parse(canonical(document), PlanDocument, key, ""))

    def open_plan(self, plan_id: str) -> Plan:
        """Open the plan with this id. Raises `LedgerError` if it is missing or damaged."""
        key = f"plans/{plan_id}.json"
        try:
            return Plan(self.store, plan_id, read(self.store, key, PlanDocument, ""))
        except NotFoundError:
            what = f"plan {plan_id[:12]} is not in {self.store.url}"
        except LedgerError as error:
            what = str(error)
        raise LedgerError(what, fix=repair_of(self.store, key))

    # --- units ------------------------------------------------------------------------------------------------

    def find(self, unit: str, kind: type[R]) -> R | None:
        """Return the commit record of a unit, or None if it has none yet.

        Raises `LedgerError` for a record that is damaged or of another kind.
        """
        key = f"units/{unit}.json"
        try:
            return find(self.store, key, kind, RESCORE)  # scores may be shared, so their ledger names no dataset
        except LedgerError as error:
            raise type(error)(str(error), fix=repair_of(self.store, key) if kind is WriteRecord else RESCORE) from None

    def put_data(self, unit: str, data: bytes, suffix: str) -> DataObject:
        """Put a data object under a unique key (see `_data_key`) and return its reference. Raises `LedgerError`."""
        sha = sha256(data).hexdigest()
        item = DataObject(key=_data_key(unit, sha, suffix), sha256=sha, bytes=len(data))
        self.store.put(item.key, data)
        return self._checked(item)

    def put_data_file(self, unit: str, path: Path, suffix: str) -> DataObject:
        """Put a data object from a file that need not fit in memory: see `put_data`."""
        with path.open("rb") as file:
            sha = file_digest(file, "sha256").hexdigest()
        item = DataObject(key=_data_key(unit, sha, suffix), sha256=sha, bytes=path.stat().st_size)
        self.store.put_file(item.key, path)
        return self._checked(item)

    def put_data_pieces(self, unit: str, pieces: Callable[[], Iterable[Piece]], suffix: str) -> DataObject:
        """Put a data object that is made piece by piece and need not fit in memory: see `put_data`.

        pieces: returns the pieces from the first one; may be called more than once.
        """
        key, sha, size = self.store.put_hashed(pieces(), lambda sha: _data_key(unit, sha, suffix), "data")
        return self._checked(DataObject(key=key, sha256=sha, bytes=size))

    def _checked(self, item: DataObject) -> DataObject:
        """Check that the object is complete, because a record must never refer to a missing or partial object."""
        size = self.store.size(item.key)
        if size != item.bytes:
            raise LedgerError(f"{item.key} has {size} bytes in {self.store.url}, not the {item.bytes} that were put")
        return item

    def software_id(self) -> str:
        """Record the versions of this process's packages in the store, and return their digest."""
        from curation.ledger.software_records import record_software

        return record_software(self.store)

    def commit(self, unit: str, record: Mapping[str, Any], kind: type[R]) -> R:
        """Create the record of a unit; return the record that counts, which is an earlier one if there already is one.

        Raises `ConservationError` if the counts don't balance, and `LedgerError` for an invalid record.
        """
        check_conservation(record)
        made = parse(canonical(record), kind, f"the record of unit {unit[:12]}", "")
        if self._create(f"units/{unit}.json", record):
            return made
        earlier = self.find(unit, kind)
        if earlier is None:
            text = f"the record of unit {unit[:12]} disappeared from {self.store.url} during the commit"
            raise LedgerError(text, fix="run the same command again; don't delete records while a run writes")
        return earlier

    def _create(self, key: str, document: Mapping[str, Any]) -> bool:
        return self.store.create(key, canonical(document))


def _data_key(unit: str, sha: str, suffix: str) -> str:
    """Return a key that no other put has, so that `curate gc` can delete a killed worker's object without a race.

    The bytes are a pure function of the content; only the keys differ between runs.
    """
    return f"data/{unit}-{sha[:16]}-{secrets.token_hex(4)}.{suffix}"
