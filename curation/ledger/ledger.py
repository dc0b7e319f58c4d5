"""The ledger: plans, commit records and snapshots on an object store, written once and never changed.

    <root>/plans/<plan_id>.json, <root>/plans/pages/<sha256 of its rows>.parquet
    <root>/units/<unit_id>.json                     the commit record of one unit of work
    <root>/data/<unit_id>-<sha>-<nonce>.<suffix>    what no record and no snapshot names is garbage
    <root>/snapshots/<000042>.json                  numbered from 1; a number is used once (see `snapshot_numbers`)
    <root>/urls/<000042>.txt                        the keys of a snapshot's shards, a line each, for other programs;
                                                    put after the document and before LATEST
    <root>/LATEST                                   a hint; a wrong one costs reads, never correctness

The protocol of a worker: `find` the record; do the work; `put_data`; `commit` with a create-only put. The first record
wins and everybody uses what it names, so two drivers on one root are safe and at worst do double work. Nothing here
lists, renames, locks or looks at a clock.

Cost: one small GET to find a unit done; one data PUT and one create-only PUT to commit it. A plan of 1 million shards
is 100 pages; a page of 10,000 shards is about 1 MB and is all that is ever in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import canonical, digest
from curation.core.errors import (
    ConservationError,
    LedgerError,
    LostSnapshotError,
    NoSnapshotError,
    NotFoundError,
)
from curation.core.types import ShardRef
from curation.ledger import snapshot_numbers as numbers
from curation.ledger.documents import (
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
)
from curation.ledger.owners import repair_of
from curation.ledger.snapshot_numbers import snapshot_key, snapshot_number, urls_key
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.store import Store

PAGE_UNITS = 10_000
PAGE_SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("etag", pa.string())])

R = TypeVar("R", ScoreRecord, WriteRecord)


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
        page, where = self.pages[index], self.store.location(self.pages[index].key)

        def checked(data: bytes) -> pa.Table:
            table = from_parquet(data, PAGE_SCHEMA.names).cast(PAGE_SCHEMA)
            found = sha256(data).hexdigest() if page.sha256 else rows_sha256(table)
            if found != (page.sha256 or page.name) or table.num_rows != page.units:
                raise LedgerError(f"{where} is damaged: its rows are not those of the plan")
            return table

        try:
            return self.store.get_parsed(page.key, checked)
        except NotFoundError:
            what = f"{where} is gone, though a plan names it"
        except LedgerError as error:
            what = str(error)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            what = f"{where} is damaged: {str(error).splitlines()[0]}"
        raise LedgerError(what, fix=repair_of(self.store, page.key))

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
        """The commit record of this unit, or None while nobody has finished it. Raises `LedgerError` for a record that
        is damaged, or of another kind."""
        key = f"units/{unit}.json"
        try:
            return find(self.store, key, kind, RESCORE)  # scores may be shared: their ledger knows no dataset's URL
        except LedgerError as error:
            raise type(error)(str(error), fix=repair_of(self.store, key) if kind is WriteRecord else RESCORE) from None

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
        from curation.ledger.software_records import record_software

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

        A hint that is behind costs reads; without a hint the documents are listed. One more request asks whether the
        number after the newest was used. Raises `LostSnapshotError` for a number that was used, whose document is gone
        and that nobody has given up: no run writes the hint, or the list of shards, before the document.
        """
        number = numbers.hint(self.store) or 0
        if number and not self._has_snapshot(number):
            if not any(number in given for given in numbers.given_up(self.store)):
                raise numbers.lost_error(self.store, number, f"LATEST names @{number}")
            number = 0
        number = number or max(numbers.numbers_there(self.store), default=0)
        while (following := self._following(number)) is not None:
            number = following
        return number

    def _following(self, number: int) -> int | None:
        """The number of the next snapshot; None behind the newest."""
        following = number + 1
        if self._has_snapshot(following):
            return following
        if not self.store.exists(urls_key(following)):
            return None
        if self._has_snapshot(following):
            return following  # it has been made between the two looks
        given = numbers.next_number(number, numbers.given_up(self.store))
        if given != following and (self._has_snapshot(given) or not self.store.exists(urls_key(given))):
            return given if self._has_snapshot(given) else None
        raise numbers.lost_error(self.store, given, f"{urls_key(given)} is there")

    def snapshot(self, number: int | None = None) -> SnapshotDocument:
        """The document of snapshot `number`, or of the latest. Raises `NoSnapshotError`, and `LedgerError` where it is
        damaged or lost."""
        wanted = self.latest() if number is None else number
        try:
            return read_snapshot(self.store, snapshot_key(wanted))
        except NotFoundError:
            raise self._missing(wanted if number else None) from None

    def _missing(self, number: int | None) -> NoSnapshotError | LostSnapshotError:
        """The error for a number without a document; None: there are no snapshots."""
        latest = self.latest()
        fix = f"the latest is @{latest}" if latest else "curate run makes one"
        if number is None:
            return NoSnapshotError(f"no snapshot in {self.store.url}", fix=fix)
        if any(number in given for given in numbers.given_up(self.store)):
            return NoSnapshotError(
                f"snapshot @{number} of {self.store.url} was lost, and given up in a repair", fix=fix
            )
        if self.store.exists(urls_key(number)):
            return numbers.lost_error(self.store, number, f"{urls_key(number)} is there")
        return NoSnapshotError(f"no snapshot @{number} in {self.store.url}", fix=fix)

    def publish(self, snapshot: SnapshotDocument) -> None:
        """Have `urls/<number>.txt` and LATEST name a snapshot, where they don't: the process that created it may have
        died before it did. The list comes first: it shows that the number is used."""
        key = urls_key(snapshot.snapshot)
        if not self.store.exists(key):
            with suppress(NotFoundError):  # the list itself is damaged: `curate verify` finds it
                self.store.create(key, self.store.get(snapshot.urls.key))
        if numbers.hint(self.store) != snapshot.snapshot:
            self.store.put("LATEST", str(snapshot.snapshot).encode())

    def create_snapshot(self, document: Mapping[str, Any]) -> SnapshotDocument:
        """Append a snapshot and publish it. When another driver was first, the number and the parent move on (rebase).

        The caller has checked that every unit's counts balance and that uids are unique. Raises `LostSnapshotError`
        where a number above the latest was used and its document is gone: no other snapshot gets that number.
        """
        check_conservation(document["samples"])
        while True:
            parent = max([self.latest(), *numbers.numbers_there(self.store)])
            if parent and _same_content(earlier := self.snapshot(parent), document):
                self.publish(earlier)
                return earlier  # the other driver ran the same recipe: its snapshot is ours
            number = self._unused(parent)
            snapshot = {**document, "snapshot": number, "parent": parent or None}
            made = parse(canonical(snapshot), SnapshotDocument, "the snapshot to be made", "")
            if self._create(snapshot_key(number), snapshot):
                self.publish(made)
                return made

    def _unused(self, parent: int) -> int:
        """The number of the snapshot to be made. A few listings, and the records of repairs."""
        for lost in numbers.lost_numbers(self.store):
            if lost.numbers[-1] > parent:
                raise numbers.lost_error(self.store, lost.numbers[0], lost.evidence)
        number = numbers.next_number(parent, numbers.given_up(self.store))
        if number > numbers.LAST:
            fix = "write to another output; or, if its number is wrong, move that document out of `snapshots/`"
            raise LedgerError(f"{self.store.url} has no number left after snapshot @{parent}", fix=fix)
        return number

    # --- details ----------------------------------------------------------------------------------------------

    def _create(self, key: str, document: Mapping[str, Any]) -> bool:
        return self.store.create(key, canonical(document))

    def _has_snapshot(self, number: int) -> bool:
        return self.store.exists(snapshot_key(number))


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


def _same_content(left: SnapshotDocument, right: Mapping[str, Any]) -> bool:
    """Names and Parquet bytes of two drivers differ (a nonce, Arrow's version): what decides the content tells."""
    return (left.decision_id, left.plan) == (right["decision_id"], right["plan"])


def read_snapshot(store: Store, key: str) -> SnapshotDocument:
    """The document of a snapshot. Raises `NotFoundError`, and `LedgerError` where it is damaged."""

    def checked(data: bytes) -> SnapshotDocument:
        return parse(data, SnapshotDocument, store.location(key), _snapshot_fix(store, key, data))

    return store.get_parsed(key, checked)


def _snapshot_fix(store: Store, key: str, data: bytes) -> str:
    """What to do about a document that is damaged."""
    root, number = store.url.removeprefix("file://"), snapshot_number(key)
    if not number:
        return f"`curate repair {root} --apply` moves it aside"
    if numbers.raw_object(data) is None:
        return numbers.lost_fix(store)
    return f"`curate repair {root}@{number} --apply` sets the fields that follow from the others; else {RESTORE}"


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
