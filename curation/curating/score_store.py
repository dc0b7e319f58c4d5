"""A store of score tables, independent of any run: inventory, export, and deletion of tables that no recipe needs.

Score tables are shared: every run that names the same shard and fingerprint finds them. No run owns them, so a deletion
lists the tables to keep. Cost: one small GET for each record (32 at a time, about 3,000/s from S3), and no samples in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef
from curation.curating.garbage import old_before, old_objects, read_record
from curation.ledger import score_tables, score_values
from curation.ledger.documents import ScoreRecord
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.score_tables import Column
from curation.storage import tables

if TYPE_CHECKING:
    import duckdb

Tick = Callable[[int], None]
PART_ROWS = 1_000_000  # of an exported file
FIRST_PART = "part-00000.parquet"


@dataclass
class FingerprintTables:
    """All tables of one fingerprint: what they are called, and what they come to."""

    fingerprint: str
    names: set[str] = field(default_factory=set)  # recipes may call one column differently
    units: int = 0
    samples: int = 0
    bytes: int = 0

    def add(self, record: ScoreRecord) -> None:
        self.names.add(record.column)
        self.units += 1
        self.samples += record.seen
        self.bytes += record.data.bytes

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "names": sorted(self.names)}


def inventory(scored: Ledger, tick: Tick = lambda units: None) -> list[FingerprintTables]:
    """What there is, by fingerprint; the largest first."""
    return take_out(scored, (), delete=False, tick=tick)


def take_out(
    scored: Ledger,
    keep: Iterable[str],
    *,
    delete: bool,
    grace: float = 86_400,
    now: float | None = None,
    tick: Tick = lambda units: None,
) -> list[FingerprintTables]:
    """Delete the tables of all fingerprints that are not in `keep` (or only say which); returns what went.

    Every record is read before the first one is deleted: raises `LedgerError`, deleting nothing, where one can't be
    read. A record is deleted before the data that it names, so a reader finds both or learns that the sample has
    not been scored. A run that had found the table before fails, and scores the sample when it is repeated. Data
    younger than `grace` seconds stay for `curate gc`, as do data whose record was deleted by a killed process.
    `now` is a clock for tests. Cost: a GET a record, a listing of `data/`, and two deletes a table that goes.
    """
    wanted, newest = set(keep), old_before(scored.store, grace, ask=delete, now=now)
    found: dict[str, FingerprintTables] = {}

    def doomed() -> Iterator[tuple[str, str]]:
        for key, record in _keyed(scored):
            if record is not None and record.fingerprint not in wanted:
                found.setdefault(record.fingerprint, FingerprintTables(record.fingerprint)).add(record)
                yield key, record.data.key
            tick(1)

    with tables.scratch() as db:
        db.execute("CREATE TABLE doomed (record VARCHAR, key VARCHAR); CREATE TABLE old (key VARCHAR, bytes BIGINT)")
        tables.insert_rows(db, "doomed", doomed())
        if delete:
            tables.insert_rows(db, "old", old_objects(scored.store, newest))
            _delete(scored, db)
    return sorted(found.values(), key=lambda held: (-held.bytes, held.fingerprint))


def _delete(scored: Ledger, db: duckdb.DuckDBPyConnection) -> None:
    """The records of the table `doomed`, and their data where these are old."""
    rows = db.execute("SELECT record, key, bytes IS NOT NULL FROM doomed LEFT JOIN old USING (key) ORDER BY record")
    while some := rows.fetchmany(tables.ROWS):
        for record, key, old in some:
            scored.store.delete(record)
            if old:
                scored.store.delete(key)


def take_out_damaged(scored: Ledger, shard: ShardRef, columns: Sequence[Column]) -> list[str]:
    """Delete the records of a shard's tables that are gone or differ from their records, and damaged records, so that
    the next pass scores them; returns the names of their columns. Reads every table whole.

    Data stay until `curate gc` finds them unnamed. A record that another process repaired between the second look and
    the delete is deleted, too: its sample is scored once more, and nothing else is lost.
    """
    damaged = []
    for column in columns:
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        if not _sound(scored, shard, column, key) and not _sound(
            scored, shard, column, key
        ):  # nor now: another run may
            scored.store.delete(key)  # be at it as well
            damaged.append(column.name)
    return damaged


def _sound(scored: Ledger, shard: ShardRef, column: Column, key: str) -> bool:
    """Whether a unit's record and table are whole and belong to the unit, or it has none."""
    try:
        score_tables.read(scored, shard, column)
    except (LedgerError, UserError):
        return not scored.store.exists(key)
    return True


def export(
    scored: Ledger, shards: Iterable[ShardRef], columns: Sequence[Column], folder: Path, tick: Tick = lambda rows: None
) -> Iterator[Path]:
    """Samples with their scores as Parquet files in `folder`, about a million rows each; yields each when it is whole.

    `columns` is the index, then scores. A row has the shard's key and etag, all of the index (uid, key, caption, size,
    content hash, reason) and every score under its name, vectors too. Moving each file away keeps the disk free.
    """
    part, rows, writer, path = 0, 0, None, folder / FIRST_PART
    units = map_ordered(lambda shard: _unit(scored, shard, columns), shards, threads=4, weigh=lambda unit: unit.nbytes)
    for table in units:
        if writer is None:
            path = folder / f"part-{part:05d}.parquet"
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
        tick(table.num_rows)
        if rows >= PART_ROWS:
            writer.close()
            yield path
            part, rows, writer = part + 1, 0, None
    if writer is not None:
        writer.close()
        yield path


def _unit(scored: Ledger, shard: ShardRef, columns: Sequence[Column]) -> pa.Table:
    """One unit's index and scores, side by side."""
    index, *rest = columns
    table = score_tables.read(scored, shard, index)
    for at, (name, value) in enumerate((("shard_key", shard.key), ("shard_etag", shard.etag))):
        table = table.add_column(at, name, pa.array([value] * table.num_rows, pa.string()))
    records = [score_tables.record_of(scored, shard, column) for column in rest]
    table = score_tables.with_poison(table, records)
    for column in rest:
        values = score_tables.read(scored, shard, column, ["value"], table.column("uid")).column("value")
        parts = score_values.parts(column.name, values) or {column.name: values}
        for name, part in parts.items():
            table = table.append_column(name, part)
    return table


def _keyed(scored: Ledger) -> Iterator[tuple[str, ScoreRecord | None]]:
    """Every record of a score table with its key; None for a record of a write unit, and for one that has gone since
    the listing. Raises `LedgerError` for a record that can't be read."""

    def read(key: str) -> tuple[str, ScoreRecord | None]:
        try:
            record = read_record(scored.store, key)
        except NotFoundError:
            return key, None
        return key, record if isinstance(record, ScoreRecord) else None

    return map_ordered(read, (item.key for item in scored.store.list("units", etags=False)))
