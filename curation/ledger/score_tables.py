"""Score tables: one Parquet file per (unit, fingerprint), with all samples of the unit, shared by every run.

The first table of a unit is its *index*: the facts that need no model (see `unit_reader.INDEX_SCHEMA`). Every scorer
adds a table of two columns, `uid` and `value`, row by row in the index's order: float32, a list of float16 for an
embedding, or the type that the scorer declares (a 64-bit hash, a word, a struct of several such). Values of quarantined
samples are null. If a scorer dies, hangs or raises for a sample, its value is null, too, and the record holds the
reason (`poison`); the index, which other scorers share, does not change.

Scores are in a ledger of their own (`<scores>/units`, `<scores>/data`), so nothing is ever scored twice, by any run.
Cost: one data PUT and one record a table; 4 bytes a score, 2 a dimension of an embedding, about 150 an index row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef, uid
from curation.ledger.documents import RESCORE, ScoreRecord
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.named_objects import read_named
from curation.ledger.score_values import parts, vector_bytes
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.parquet import from_parquet, to_parquet

INDEX = "index"
_LATER = {"origin": pa.string()}  # columns that not every index table has: read as null
Records = Mapping[str, ScoreRecord]  # commit records of one unit, by the fingerprints of their columns


@dataclass(frozen=True)
class Column:
    """A score column of a recipe: its name there, and the fingerprint that determines its values."""

    name: str
    fingerprint: str


def committed(ledger: Ledger, shard: ShardRef, columns: Sequence[Column]) -> dict[str, ScoreRecord]:
    """Return the commit records of those columns that have one for this shard, by name. Cost: a small GET a column."""
    found = ((column.name, ledger.find(unit_id(shard, column.fingerprint), ScoreRecord)) for column in columns)
    return {name: record for name, record in found if record is not None}


def missing(ledger: Ledger, shard: ShardRef, columns: Sequence[Column]) -> list[str]:
    """Return the names of the columns that are not committed for this shard. Cost: a small GET a column."""
    found = committed(ledger, shard, columns)
    return [column.name for column in columns if column.name not in found]


def index_table(rows: pa.Table, unit_reason: str | None, unit_detail: str | None = None) -> pa.Table:
    """Return the index table of a unit from its stream rows.

    `unit_reason`: set for a broken archive, which quarantines every row; `unit_detail`: information about it.
    """
    table = rows.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    if unit_reason is not None:
        at, sound = table.schema.get_field_index("detail"), pc.is_null(table.column("reason"))
        detail = pa.scalar(unit_detail, pa.string())
        table = table.set_column(at, "detail", pc.if_else(sound, detail, table.column("detail")))
        at = table.schema.get_field_index("reason")
        table = table.set_column(at, "reason", pc.fill_null(table.column("reason"), unit_reason))
    if table.column("origin").null_count == table.num_rows:  # as in tables of versions before the column
        return table.drop_columns(["origin"])
    return table


def commit_index(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    rows: pa.Table,
    unit_reason: str | None,
    unit_detail: str | None = None,
) -> ScoreRecord:
    """Commit the index table of a unit; arguments: see `index_table`. Returns the record that counts."""
    table = index_table(rows, unit_reason, unit_detail)
    reasons = Counter(reason for reason in table.column("reason").to_pylist() if reason is not None)
    return _commit(ledger, shard, column, table, {"quarantined": dict(sorted(reasons.items())), "reason": unit_reason})


def commit_score(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    uids: pa.ChunkedArray,
    values: pa.Array,
    poison: Mapping[int, str] | None = None,
) -> ScoreRecord:
    """Commit the score table of one scorer for a unit, `uids` and `values` in the index's order.

    `poison`: row -> reason, for rows that the scorer can't score. Returns the record that counts.
    """
    table = pa.table({"uid": uids, "value": values})
    extra = {"poison": {str(row): reason for row, reason in sorted(poison.items())}} if poison else {}
    return _commit(ledger, shard, column, table, extra)


def _commit(ledger: Ledger, shard: ShardRef, column: Column, table: pa.Table, extra: dict[str, Any]) -> ScoreRecord:
    unit = unit_id(shard, column.fingerprint)
    item = ledger.put_data(unit, to_parquet(table), "parquet")
    record = {
        "kind": "score",
        "column": column.name,
        "fingerprint": column.fingerprint,
        "key": shard.key,
        "size": shard.size,
        "etag": shard.etag,
        "seen": table.num_rows,
        "data": item.to_json(),
        "software": ledger.software_id(),
        **extra,
    }
    return ledger.commit(unit, record, ScoreRecord)


def read(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    names: Sequence[str] | None = None,
    uids: pa.ChunkedArray | None = None,
    record: ScoreRecord | None = None,
) -> pa.Table:
    """Read the committed table of a unit and column, or the columns `names` of it.

    Raises `LedgerError` if it is missing, damaged, or another unit's. To detect the latter, the uids of an index are
    recomputed from key, etag and offset, and those of other tables are compared with `uids`, the index's, if given.
    `record`: the commit record, if it has been read.
    """
    return _read(ledger, shard, column, record or record_of(ledger, shard, column), names, uids)


def _read(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    record: ScoreRecord,
    names: Sequence[str] | None,
    uids: pa.ChunkedArray | None = None,
) -> pa.Table:
    checked = ["uid", "offset"] if column.name == INDEX else ["uid"] if uids is not None else []
    table = load(ledger, record, names if names is None else list(dict.fromkeys([*names, *checked])))
    if not (_has_own_uids(table, shard) if column.name == INDEX else uids is None or uids.equals(table.column("uid"))):
        where = ledger.store.location(record.data.key)
        text = f"{column.name} of {shard.key}: the uids in {where} belong to another shard"
        raise LedgerError(text, fix=RESCORE)
    return table if names is None else table.select(names)


def _has_own_uids(index: pa.Table, shard: ShardRef) -> bool:
    """Whether the first and the last uid follow from the shard, which distinguishes the tables of shards.

    `curate verify` recomputes all of them: 1 us each, as much as reading them costs.
    """
    names, offsets = index.column("uid"), index.column("offset")
    ends = {0, index.num_rows - 1} if index.num_rows else set()
    return all(names[row].as_py() == uid(shard.key, shard.etag, offsets[row].as_py()) for row in ends)


def record_of(ledger: Ledger, shard: ShardRef, column: Column, known: ScoreRecord | None = None) -> ScoreRecord:
    """Return the commit record of a unit and column. known: the record, if it was read before.

    Raises `LedgerError` if the unit has not been scored, or if the record belongs to another unit (swapped records of
    shards with equal length would otherwise go unnoticed).
    """
    unit = unit_id(shard, column.fingerprint)
    record = known or ledger.find(unit, ScoreRecord)
    if record is None:
        raise LedgerError(f"{column.name} of {shard.key} has not been scored", fix=RESCORE)
    expected = {**shard._asdict(), "fingerprint": column.fingerprint}
    wrong = [f"`{name}`" for name, value in expected.items() if record[name] != value]
    wrong += ["`data.key`"] if not record.data.key.startswith(f"data/{unit}-") else []
    if wrong:
        where = ledger.store.location(f"units/{unit}.json")
        raise LedgerError(f"{where} is not the record of {column.name} of {shard.key}: {', '.join(wrong)}", fix=RESCORE)
    return record


def load(ledger: Ledger, record: ScoreRecord, names: Sequence[str] | None = None) -> pa.Table:
    """Read the table of a record, or the columns `names` of it. Raises `LedgerError` if it is missing or damaged."""
    data, where = read_named(ledger.store, record.data.key, record.data.sha256, RESCORE), record.data.key
    try:
        table = from_parquet(data, names, _LATER if record.column == INDEX else None)
    except (pa.ArrowException, KeyError, OSError) as error:
        what = str(error).splitlines()[0]
        raise LedgerError(f"{ledger.store.location(where)} is not a score table: {what}", fix=RESCORE) from None
    if table.num_rows != record.seen:
        text = f"{ledger.store.location(where)} has {table.num_rows:,} rows, but its record has {record.seen:,}"
        raise LedgerError(text, fix=RESCORE)
    return table


def fields(ledger: Ledger, shard: ShardRef, column: Column) -> dict[str, pa.DataType]:
    """Return the names and types of a column's values: one, one for each field of a struct, or none for a vector."""
    return {name: part.type for name, part in read_parts(ledger, shard, column).items()}


def read_parts(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    uids: pa.ChunkedArray | None = None,
    record: ScoreRecord | None = None,
) -> dict[str, pa.ChunkedArray]:
    """Read the committed values of a unit and column, split as by `parts`; `uids` and `record`: see `read`."""
    return parts(column.name, read(ledger, shard, column, ["value"], uids, record).column("value"))


class LoadedUnit(NamedTuple):
    """One shard's score tables, joined by row. records: of the columns that were asked for, in order.

    reason: why the unit itself is broken, if so. A unit that is set aside has a table without rows and no records.
    """

    reason: str | None
    table: pa.Table
    records: Sequence[ScoreRecord]


def load_units(
    scored: Ledger,
    shards: Iterable[ShardRef],
    columns: Sequence[Column],
    index: Sequence[str],
    vectors: Sequence[Column] = (),
    lengths: Callable[[pa.Table, ShardRef], pa.Array] | None = None,
    unreadable: Mapping[ShardRef, str] | None = None,
    known: Iterable[Records] | None = None,
) -> Iterator[LoadedUnit]:
    """Yield the tables of every shard, in order.

    A table has row, uid, reason, the columns `index` of the index, then scores and vectors. `columns`: the index
    column, then score columns that are not vectors; the records of `vectors` follow theirs. `lengths` replaces
    `length`, if requested, by a value computed from the index's `offset`, `length` and `members`. `unreadable`: units
    that are set aside, and why. `known`: for each shard, the commit records that were read before; others are read.
    Memory: 256 MB of units ahead of the consumer, or two units. Raises `LedgerError` for a unit that is not scored.
    """
    names = list(dict.fromkeys(["row", "uid", "reason", *index]))
    measure = lengths if "length" in index else None
    wanted = list(dict.fromkeys([*names, *(["offset", "length", "members"] if measure else [])]))

    def one(item: tuple[ShardRef, Records]) -> LoadedUnit:
        shard, read_before = item
        if unreadable and shard in unreadable:
            return LoadedUnit(unreadable[shard], pa.table({"row": pa.array([], pa.int32())}), ())
        records = [
            record_of(scored, shard, column, read_before.get(column.fingerprint)) for column in [*columns, *vectors]
        ]
        table = _read(scored, shard, columns[0], records[0], wanted)
        uids = table.column("uid")
        if measure:
            at = table.schema.get_field_index("length")
            table = table.set_column(at, "length", measure(table, shard)).select(names)
        for column, record in zip([*columns[1:], *vectors], records[1:], strict=True):
            values = _read(scored, shard, column, record, ["value"], uids).column("value")
            found = {column.name: vector_bytes(values)} if column in vectors else parts(column.name, values)
            for name, part in found.items():
                table = table.append_column(name, part)
        return LoadedUnit(records[0].reason, with_poison(table, records[1:]), records)

    items = zip(shards, repeat({}) if known is None else known, strict=known is not None)
    yield from map_ordered(one, items, weigh=lambda unit: unit.table.nbytes)
    pa.default_memory_pool().release_unused()  # Arrow had kept 0.4 GB for threads that have ended


def with_poison(table: pa.Table, records: Iterable[ScoreRecord]) -> pa.Table:
    """Return a unit's table whose `reason` includes the samples that are poison to a scorer.

    The index's own reason takes precedence, then that of the first record with one.
    """
    found: dict[int, str] = {}
    for item in records:
        for row, reason in item.poison.items():
            found.setdefault(int(row), reason)
    if not found:
        return table
    reasons = pa.array([found.get(row) for row in range(table.num_rows)], pa.string())
    at = table.schema.get_field_index("reason")
    return table.set_column(at, "reason", pc.coalesce(table.column("reason"), reasons))
