"""Find and delete data objects that nothing names: what killed workers left, or workers that came second.

Two phases. The first reads and validates everything that can name data: commit records, every snapshot under whatever
number, and the two Parquet indexes of each snapshot, which name its shards and its manifest. It stops where a document
can't be read, and where a snapshot is lost (`lost_snapshots`) that was not given up. Only then the second phase
deletes what is neither named nor young. Half-written files of killed workers, which only local disks have, are deleted
with it.

An object is named within minutes of being put, and its name holds a random part, so no later put revives a name that is
about to be deleted. The grace must therefore be longer than the slowest worker takes from its data put to its record
(`MIN_GRACE` at the least; for a snapshot's index, from that put to the snapshot).

Cost: a probe that tells the store's clock; listing `data/` (1,000 keys a request); one small GET a commit
record, 32 at a time, and 0.1 ms of CPU (local disk); of each snapshot its document and two indexes, about 130 bytes an
output shard; 90 bytes of local disk a key. In memory: what goes.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.parallel import map_ordered
from curation.dataset.snapshot import Snapshot
from curation.ledger.documents import ScoreRecord, SnapshotDocument, WriteRecord, parse_unit_record
from curation.ledger.ledger import Ledger
from curation.ledger.lost_snapshots import lost_error, lost_numbers
from curation.ledger.owners import repair_of
from curation.ledger.snapshots import read_snapshot
from curation.storage import tables
from curation.storage.store import Store

if TYPE_CHECKING:
    import duckdb

# Of a ledger, and of what judges it.
FOLDERS = ("data", "units", "snapshots", "plans", "urls", "software", "evaluations", "runs")
MIN_GRACE = 3600.0  # seconds: the slowest worker's time from its data put to its record, with room
_OF_A_UNIT = re.compile(r"units/[0-9a-f]{64}\.json|data/[0-9a-f]{64}-[0-9a-f]{16}(-[0-9a-f]{8})?\.\w+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Garbage:
    """A data object that no record and no snapshot names."""

    url: str
    bytes: int


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `24h`, `7d` as seconds. Raises `UserError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not match:
        raise UserError(f"{text!r} is not a length of time", fix="write for example 90m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def is_ledger(store: Store) -> bool:
    """Whether there are records of units, or their data, by their names: all that a store of scores has."""
    first = (next(iter(store.list(folder, etags=False)), None) for folder in ("units", "data"))
    return any(item is not None and _OF_A_UNIT.fullmatch(item.key) for item in first)


def old_before(store: Store, grace: float, *, ask: bool, now: float | None = None) -> float:
    """The moment (seconds since 1970) before which an object counts as old. `now`: another clock, for tests.

    `ask`: the store's own clock, by a probe that is put and deleted: where this machine's is ahead, what is young would
    look old. Raises `UserError` for a grace below `MIN_GRACE`: a worker that has put its data and not yet its record
    would lose them.
    """
    if grace < MIN_GRACE:
        least = f"{MIN_GRACE / 3600:g}h"
        text = f"a grace of {grace:g} s is too short: a worker that is about to name its data would lose them"
        raise UserError(text, fix=f"--grace {least} or more; the default is 24h")
    if now is None:
        now = min(time.time(), _clock_of(store)) if ask else time.time()
    return now - grace


def _clock_of(store: Store) -> float:
    key = f".probe/{secrets.token_hex(16)}"
    store.put(key, b"")
    try:
        return store.head(key).modified
    finally:
        store.delete(key)


def sweep(ledgers: Sequence[Ledger], *, grace: float, delete: bool, now: float | None = None) -> list[Garbage]:
    """The unnamed data objects that are older than `grace` seconds; deletes them if asked to.

    Raises `LedgerError` where a record, a snapshot or an index of any of the ledgers can't be read: then nothing is
    deleted in any of them.
    """
    newest = [old_before(ledger.store, grace, ask=delete, now=now) for ledger in ledgers]
    swept = list[Garbage]()
    with tables.scratch() as db:
        db.execute(
            "CREATE TABLE there (ledger INTEGER, key VARCHAR, bytes BIGINT); "
            "CREATE TABLE named (ledger INTEGER, key VARCHAR)"
        )
        for number, ledger in enumerate(ledgers):
            _survey(db, number, ledger, newest[number])
        unnamed = db.execute("SELECT * FROM there ANTI JOIN named USING (ledger, key) ORDER BY ledger, key")
        while rows := unnamed.fetchmany(tables.ROWS):
            for number, key, size in rows:
                store = ledgers[number].store
                if delete:
                    store.delete(key)
                swept.append(Garbage(store.location(key), size))
    return swept


def old_objects(store: Store, newest: float) -> Iterator[tuple[str, int]]:
    """(key, bytes) of the objects below `data/` and of half-written files that were last changed before `newest`."""
    found = chain(store.list("data", etags=False), chain.from_iterable(store.unfinished(name) for name in FOLDERS))
    return ((item.key, item.size) for item in found if item.modified <= newest)


def _survey(db: duckdb.DuckDBPyConnection, number: int, ledger: Ledger, newest: float) -> None:
    """Fill both tables for one ledger. Data are listed first: whatever is named from then on is found named."""
    tables.insert_rows(db, "there", ((number, *found) for found in old_objects(ledger.store, newest)))
    tables.insert_rows(db, "named", zip(repeat(number), chain.from_iterable(_named(ledger))))


def _named(ledger: Ledger) -> Iterator[Iterator[str]]:
    """The data keys that each record and each snapshot names."""
    store = ledger.store

    def of_record(key: str) -> Iterator[str]:
        try:
            return read_record(store, key).names()
        except NotFoundError:  # `curate scores gc` has deleted it since the listing
            return iter(())

    def of_snapshot(document: SnapshotDocument) -> Iterator[str]:
        made = Snapshot(store, document)
        indexes = (made.shards, made.parts)
        return chain(made.document.names(), *(pc.unique(index.column("key")).to_pylist() for index in indexes))

    yield from map_ordered(of_record, (item.key for item in store.list("units", etags=False)))
    yield from map_ordered(of_snapshot, (document for _, document in snapshots(store)), threads=4)


def read_record(store: Store, key: str) -> ScoreRecord | WriteRecord:
    """A commit record of either kind. Raises `NotFoundError`, and `LedgerError` that names the snapshot to repair."""
    try:
        return store.get_parsed(key, lambda data: parse_unit_record(data, store.location(key), ""))
    except LedgerError as error:
        raise LedgerError(str(error), fix=repair_of(store, key)) from None


def snapshots(store: Store) -> Iterator[tuple[str, SnapshotDocument]]:
    """Every snapshot below a root with its key, in order. Raises `LedgerError` where a document is damaged, and where a
    number is lost: nobody knows then what its snapshot names."""
    keys = sorted(item.key for item in store.list("snapshots", etags=False) if item.key.endswith(".json"))
    for lost in lost_numbers(store):
        raise lost_error(store, lost.numbers[0], lost.evidence)
    return map_ordered(lambda key: (key, read_snapshot(store, key)), keys)
