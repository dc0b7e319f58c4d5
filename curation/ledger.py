"""The ledger: plans, commit records and snapshots on an object store, written once and never changed.

    <root>/plans/<plan_id>.json, <root>/plans/pages/<sha256 of its rows>.parquet
    <root>/units/<unit_id>.json                     the commit record of one unit of work
    <root>/data/<unit_id>-<sha>-<nonce>.<suffix>    what no record and no snapshot names is garbage
    <root>/snapshots/<000042>.json                  numbered densely from 1
    <root>/urls/<000042>.txt                        the keys of a snapshot's shards, a line each, for other programs
    <root>/LATEST                                   a hint; a wrong one costs reads, never correctness

The protocol of a worker: `find` the record; do the work; `put_data`; `commit` with a create-only put. The first record
wins and everybody uses what it names, so two drivers on one root are safe and at worst do double work. Nothing here
lists, renames, locks or looks at a clock.

Cost: one small GET to find a unit done; one data PUT and one create-only PUT to commit it. A plan of 1 million shards
is 100 pages; a page of 10,000 shards is about 1 MB and is all that is ever in memory.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.data import ShardRef
from curation.documents import (
    RESCORE,
    RESTORE,
    DataObject,
    PlanDocument,
    PlanPage,
    ScoreRecord,
    SnapshotDocument,
    WriteRecord,
    find,
    parse,
    read,
    repair,
)
from curation.errors import (
    BucketError,
    ConservationError,
    LedgerError,
    LostSnapshotError,
    NoSnapshotError,
    NotFoundError,
)
from curation.parquet import from_parquet, to_parquet
from curation.store import Store

PAGE_UNITS = 10_000
PAGE_SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])

R = TypeVar("R", ScoreRecord, WriteRecord)


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values have equal bytes, so hashes of them are names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`, 64 hexadecimal characters."""
    return sha256(canonical(value)).hexdigest()


def unit_id(shard: ShardRef, fingerprint: str, *, start: int = 0, stop: int | None = None) -> str:
    """The name of "these bytes of this shard, treated in this way": sha256(key, etag, range, fingerprint)."""
    return digest([shard.key, shard.etag, start, shard.size if stop is None else stop, fingerprint])


@dataclass(frozen=True)
class Plan:
    """Sorted shards, in pages, with what is to be done to them. Equal content has an equal id."""

    store: Store
    id: str
    document: PlanDocument

    @property
    def units(self) -> int:
        return self.document.units

    @property
    def bytes(self) -> int:
        return self.document.bytes

    @property
    def pages(self) -> Sequence[PlanPage]:
        return self.document.pages

    def page(self, index: int) -> list[ShardRef]:
        """The shards of one page, at most `PAGE_UNITS`. Raises `LedgerError` where it is gone or damaged."""
        columns = (column.to_pylist() for column in self.table(index).columns)
        return [ShardRef(*row) for row in zip(*columns, strict=True)]

    def table(self, index: int) -> pa.Table:
        """The same as Arrow: key, size and etag."""
        page, fix = self.pages[index], repair(self.store.url)
        where = self.store.location(page.key)

        def checked(data: bytes) -> pa.Table:
            table = from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA)
            found = sha256(data).hexdigest() if page.sha256 else rows_sha256(table)
            if found != (page.sha256 or page.name) or table.num_rows != page.units:
                raise LedgerError(f"{where} is damaged: its rows are not those of the plan", fix=fix)
            return table

        try:
            return self.store.get_parsed(page.key, checked)
        except NotFoundError:
            raise LedgerError(f"{where} is gone, though a plan names it", fix=fix) from None
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            what = str(error).splitlines()[0]
            raise LedgerError(f"{where} is damaged: {what}", fix=fix) from None

    def same_as(self, other: Plan) -> bool:
        """Whether both plan the same shards for the same work. Plans of earlier versions have other ids for it: their
        pages are read (1 MB for 10,000 shards), unless anything else differs."""
        if self.id == other.id:
            return True
        mine, theirs = ({**plan.document.to_json(), "pages": 0} for plan in (self, other))
        if mine != theirs or len(self.pages) != len(other.pages):
            return False
        return all(self._rows(n) == other._rows(n) for n in range(len(self.pages)))

    def _rows(self, index: int) -> str:
        page = self.pages[index]
        return rows_sha256(self.table(index)) if page.sha256 else page.name

    def shards(self) -> Iterator[ShardRef]:
        """All shards in order, a page in memory at a time."""
        for index in range(len(self.pages)):
            yield from self.page(index)


def read_named(store: Store, key: str, sha: str, fix: str) -> bytes:
    """An object that a ledger names with its sha256 (1 ms a megabyte to check). Raises `LedgerError` with `fix` where
    it is gone or is another."""

    def checked(data: bytes) -> bytes:
        if sha256(data).hexdigest() != sha:
            raise LedgerError(f"{store.location(key)} is damaged: it has another sha256 than the ledger says", fix=fix)
        return data

    try:
        return store.get_parsed(key, checked)
    except NotFoundError:
        raise LedgerError(f"{store.location(key)} is gone, though the ledger names it", fix=fix) from None


def rows_sha256(table: pa.Table) -> str:
    """sha256 of the rows of a page, whatever Parquet makes of them: the number of rows, then of each column in order
    its values; strings as their lengths, then their bytes (UTF-8); lengths and sizes as int64, little-endian.

    60 ms for 1 million rows of 60 bytes.
    """
    hashed = sha256(table.num_rows.to_bytes(8, "little"))
    for column in table.select(PAGE_SCHEMA.names).columns:
        if pa.types.is_integer(column.type):
            hashed.update(np.ascontiguousarray(column.to_numpy(), "<i8").data)
            continue
        hashed.update(np.ascontiguousarray(pc.binary_length(column).to_numpy(), "<i8").data)
        for chunk in column.chunks:
            hashed.update(_bytes(chunk))
    return hashed.hexdigest()


def _bytes(strings: pa.Array) -> memoryview:
    """The bytes of an array of strings, one after the other."""
    _, offsets, data = strings.buffers()
    if not len(strings) or data is None:
        return memoryview(b"")
    starts = np.frombuffer(offsets, "<i4", len(strings) + 1, 4 * strings.offset)
    return memoryview(data)[starts[0] : starts[-1]]


class Ledger:
    """Plans, records and snapshots below one URL. Cheap to make and to pickle: it holds nothing but the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # --- plans ------------------------------------------------------------------------------------------------

    def plan(self, batches: Iterable[pa.RecordBatch], context: Mapping[str, Any]) -> Plan:
        """Make the plan for shards that arrive sorted by key, as Arrow batches of (key, size, etag).

        Pages are named by their rows, so planning an unchanged corpus again puts nothing new, whatever version of
        Arrow does it. `context` (the corpus and the fingerprints) becomes part of the id. For a dry run, plan into a
        ledger on local disk.
        """
        pages, units, total = [], 0, 0
        for table in _repage(batches):
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
        """The plan with this id. Raises `LedgerError` when the ledger doesn't hold it."""
        fix = repair(self.store.url)
        try:
            return Plan(self.store, plan_id, read(self.store, f"plans/{plan_id}.json", PlanDocument, fix))
        except NotFoundError:
            raise LedgerError(f"plan {plan_id[:12]} is not in {self.store.url}", fix=fix) from None

    # --- units ------------------------------------------------------------------------------------------------

    def find(self, unit: str, kind: type[R]) -> R | None:
        """The commit record of this unit, or None while nobody has finished it. Raises `LedgerError` for a record that
        is damaged, or of another kind."""
        return find(self.store, f"units/{unit}.json", kind, self._fix(kind))

    def _fix(self, kind: type[Any]) -> str:
        """What to do about a damaged record. Scores may be shared, so their ledger does not know the dataset's URL."""
        return repair(self.store.url) if kind is WriteRecord else RESCORE

    def put_data(self, unit: str, data: bytes, suffix: str) -> DataObject:
        """Put a data object under a name of its own (see `_data_key`)."""
        sha = sha256(data).hexdigest()
        item = DataObject(key=_data_key(unit, sha, suffix), sha256=sha, bytes=len(data))
        self.store.put(item.key, data)
        return self._checked(item)

    def put_data_file(self, unit: str, path: Path, suffix: str) -> DataObject:
        """Like `put_data`, from a file that need not fit in memory."""
        with path.open("rb") as file:
            sha = file_digest(file, "sha256").hexdigest()
        item = DataObject(key=_data_key(unit, sha, suffix), sha256=sha, bytes=path.stat().st_size)
        self.store.put_file(item.key, path)
        return self._checked(item)

    def _checked(self, item: DataObject) -> DataObject:
        """A record must never name an object that isn't there whole."""
        size = self.store.size(item.key)
        if size != item.bytes:
            raise LedgerError(f"{item.key} has {size} bytes in {self.store.url}, not the {item.bytes} that were put")
        return item

    def software_id(self) -> str:
        """The digest of this process' versions, once these are in the store."""
        from curation.software import record_software

        return record_software(self.store)

    def commit(self, unit: str, record: Mapping[str, Any], kind: type[R]) -> R:
        """Create the record of a unit; returns the record that holds, which is an earlier one if we came second."""
        check_conservation(record)
        made = parse(canonical(record), kind, f"the record of unit {unit[:12]}", "")
        if self._create(f"units/{unit}.json", record):
            return made
        earlier = self.find(unit, kind)
        if earlier is None:
            raise LedgerError(f"record of unit {unit[:12]} vanished from {self.store.url} (was it deleted by hand?)")
        return earlier

    # --- snapshots --------------------------------------------------------------------------------------------

    def latest(self) -> int:
        """The newest snapshot's number, 0 when there is none: from the hint forward until one is missing.

        A hint that is behind costs reads; without a hint the documents are listed. Raises `LostSnapshotError` where the
        hint names a document that is gone: no run writes the hint before the document.
        """
        hint = self._hint
        if hint and not self._has_snapshot(hint):
            raise self._lost(hint)
        known = hint or max(self._listed(), default=0)
        return next(number for number in count(known) if not self._has_snapshot(number + 1))

    def _lost(self, hint: int) -> LostSnapshotError:
        root, there = self.store.url.removeprefix("file://"), max(self._listed(), default=0)
        fix = "restore it from a backup"
        if there:
            fix += f", open {root}@{there}, or go on from there: `curate repair {root} --accept-loss --apply`"
        else:
            fix += "; or delete LATEST, if it belongs to another dataset"
        newest = f"the newest that is there is @{there}" if there else "none is there"
        text = f"LATEST of {root} names snapshot @{hint}, whose document {snapshot_key(hint)} is gone; {newest}"
        return LostSnapshotError(text, fix=fix)

    def _listed(self) -> Iterator[int]:
        """The numbers of all documents of snapshots, in no order. One listing."""
        with suppress(BucketError):  # of a folder on local disk that nobody has made yet
            for item in self.store.list("snapshots", etags=False):
                if item.key == snapshot_key(number := snapshot_number(item.key)):
                    yield number

    def snapshot(self, number: int | None = None) -> SnapshotDocument:
        """The document of snapshot `number`, or of the latest. Raises `NoSnapshotError`, and `LedgerError` where it is
        damaged or lost."""
        wanted = self.latest() if number is None else number
        try:
            return read(self.store, snapshot_key(wanted), SnapshotDocument, snapshot_fix(self.store, wanted))
        except NotFoundError:
            latest = self.latest()
            fix = f"the latest is @{latest}" if latest else "curate run makes one"
            name = "no snapshot" if number is None else f"no snapshot @{wanted}"
            raise NoSnapshotError(f"{name} in {self.store.url}", fix=fix) from None

    def list_urls(self, snapshot: SnapshotDocument) -> None:
        """Put the keys of a snapshot's shards under a name that other programs can find without its document."""
        self.store.create(urls_key(snapshot.snapshot), self.store.get(snapshot.urls.key))

    def create_snapshot(self, document: Mapping[str, Any]) -> SnapshotDocument:
        """Append a snapshot. When another driver was first, the number and the parent move on (rebase).

        The caller has checked that every unit's counts balance and that uids are unique.
        """
        check_conservation(document["samples"])
        while True:
            parent = self.latest()
            snapshot = {**document, "snapshot": parent + 1, "parent": parent or None}
            made = parse(canonical(snapshot), SnapshotDocument, "the snapshot to be made", "")
            if parent and _same_content(earlier := self.snapshot(parent), made):
                self.hint_at(parent)  # the process that created it may have died before writing the hint
                return earlier  # the other driver ran the same recipe: its snapshot is ours
            if self._create(snapshot_key(parent + 1), snapshot):
                self.hint_at(parent + 1)
                return made

    # --- details ----------------------------------------------------------------------------------------------

    def _create(self, key: str, document: Mapping[str, Any]) -> bool:
        return self.store.create(key, canonical(document))

    def _has_snapshot(self, number: int) -> bool:
        return self.store.exists(snapshot_key(number))

    def hint_at(self, number: int) -> None:
        """Have LATEST name a snapshot, where it doesn't."""
        if self._hint != number:
            self.store.put("LATEST", str(number).encode())

    @property
    def _hint(self) -> int:
        try:
            text = self.store.get("LATEST")
        except NotFoundError:
            return 0
        return int(text) if text.isdigit() and len(text) < 10 else 0


def check_conservation(counts: Mapping[str, Any]) -> None:
    """Raise `ConservationError` unless seen = kept + sum(filtered) + sum(quarantined).

    A record without decisions (a score table) has only seen and quarantined: kept and filtered are absent.
    """
    if "kept" not in counts:
        return
    kept, filtered, quarantined = counts["kept"], counts["filtered"], counts["quarantined"]
    total = kept + sum(filtered.values()) + sum(quarantined.values())
    if counts["seen"] != total:
        where = counts.get("key") or counts.get("kind") or "the snapshot"
        raise ConservationError(
            f"counts of {where} do not add up: seen {counts['seen']} != kept {kept} + filtered {sum(filtered.values())}"
            f" + quarantined {sum(quarantined.values())}"
        )


def _data_key(unit: str, sha: str, suffix: str) -> str:
    """A name that no other put has: a repeated attempt puts another object, so that `curate gc` can delete the one that
    a killed worker left without racing it. Bytes stay a pure function of the content; names differ between runs."""
    return f"data/{unit}-{sha[:16]}-{secrets.token_hex(4)}.{suffix}"


def _same_content(left: SnapshotDocument, right: SnapshotDocument) -> bool:
    """Names and Parquet bytes of two drivers differ (a nonce, Arrow's version): what decides the content tells."""
    return (left.decision_id, left.plan) == (right.decision_id, right.plan)


def snapshot_key(number: int) -> str:
    return f"snapshots/{number:06d}.json"


def urls_key(number: int) -> str:
    return f"urls/{number:06d}.txt"


def snapshot_fix(store: Store, number: int) -> str:
    """What to do about a document that is damaged; number 0: of a name that no snapshot has."""
    if not number:
        return f"`curate repair {store.url.removeprefix('file://')} --apply` moves it aside"
    root = store.url.removeprefix("file://")
    return f"`curate repair {root}@{number} --apply` sets the fields that follow from the others; else {RESTORE}"


def snapshot_number(key: str) -> int:
    """The number in the key of a snapshot's document; 0 for any other key."""
    match = re.fullmatch(r"snapshots/(\d{6,9})\.json", key)
    return int(match[1]) if match else 0


def _repage(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Regroup batches into tables of exactly `PAGE_UNITS` rows (the last one shorter)."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        while rows >= PAGE_UNITS:
            table = pa.Table.from_batches(pending).cast(PAGE_SCHEMA)
            yield table.slice(0, PAGE_UNITS).combine_chunks()
            pending = table.slice(PAGE_UNITS).to_batches()
            rows -= PAGE_UNITS
    if rows:
        yield pa.Table.from_batches(pending).cast(PAGE_SCHEMA).combine_chunks()
