"""Score tables: one Parquet a (unit, fingerprint), holding all samples of the unit, shared by every run.

The first table of a unit is its *index*: the facts that need no model (see `units.INDEX_SCHEMA`). Every scorer adds a
table of two columns, `uid` and `value`, row for row in the index's order: float32, or a list of float16 for an
embedding, or what a scorer says that it is (a 64-bit hash, a word, a struct of several such). Values of quarantined
samples are null. Where a scorer dies, hangs or raises for a sample, that value is null, too, and the record says why
(`poison`); the index, which other scorers share, does not change.

Scores live in a ledger of their own (`<scores>/units`, `<scores>/data`), so nothing is ever scored twice, by any run.
Cost: one data PUT and one record a table; 4 bytes a score, 2 a dimension of an embedding, about 150 an index row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, UserError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef, uid
from curation.ledger.documents import RESCORE, ScoreRecord
from curation.ledger.ledger import Ledger, read_named, unit_id
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.parquet import from_parquet, to_parquet

INDEX = "index"


@dataclass(frozen=True)
class Column:
    """A score column of a recipe: the name it has there, and the fingerprint that decides its values."""

    name: str
    fingerprint: str


def missing(ledger: Ledger, shard: ShardRef, columns: Sequence[Column]) -> list[str]:
    """The names of those columns of this shard that nobody has committed yet. One small GET a column."""
    return [column.name for column in columns if ledger.find(unit_id(shard, column.fingerprint), ScoreRecord) is None]


def index_table(rows: pa.Table, unit_reason: str | None, unit_detail: str | None = None) -> pa.Table:
    """The index table of a unit from its stream rows; of a broken archive, every row is quarantined."""
    table = rows.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    if unit_reason is not None:
        at, sound = table.schema.get_field_index("detail"), pc.is_null(table.column("reason"))
        detail = pa.scalar(unit_detail, pa.string())
        table = table.set_column(at, "detail", pc.if_else(sound, detail, table.column("detail")))
        at = table.schema.get_field_index("reason")
        table = table.set_column(at, "reason", pc.fill_null(table.column("reason"), unit_reason))
    return table


def commit_index(
    ledger: Ledger,
    shard: ShardRef,
    column: Column,
    rows: pa.Table,
    unit_reason: str | None,
    unit_detail: str | None = None,
) -> ScoreRecord:
    """Commit the index table of a unit (see `index_table`)."""
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
    """Commit the score table of one scorer for a unit. `poison`: rows that the scorer can't score, with the reason."""
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
) -> pa.Table:
    """The committed table of a unit and column. Raises `LedgerError` when it isn't there, is damaged, or is another
    unit's: an index has the uids that follow from key, etag and offset, and other tables have the `uids` of the index,
    where they are given."""
    return _read(ledger, shard, column, record_of(ledger, shard, column), names, uids)


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
        text = f"{column.name} of {shard.key}: the uids in {ledger.store.location(record.data.key)} are not the shard's"
        raise LedgerError(text, fix=RESCORE)
    return table if names is None else table.select(names)


def _has_own_uids(index: pa.Table, shard: ShardRef) -> bool:
    """Whether the first and the last uid follow from the shard, which tells the tables of shards apart. All of them are
    recomputed by `curate verify`: 1 us each, as much as reading them costs."""
    names, offsets = index.column("uid"), index.column("offset")
    ends = {0, index.num_rows - 1} if index.num_rows else set()
    return all(names[row].as_py() == uid(shard.key, shard.etag, offsets[row].as_py()) for row in ends)


def record_of(ledger: Ledger, shard: ShardRef, column: Column) -> ScoreRecord:
    """The commit record of a unit and column. Raises `LedgerError` when it has not been scored, or when the record is
    another unit's: they are exchanged most easily between shards of equal length."""
    unit = unit_id(shard, column.fingerprint)
    record = ledger.find(unit, ScoreRecord)
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
    """The table that a record names. Raises `LedgerError` where it is gone or damaged."""
    data, where = read_named(ledger.store, record.data.key, record.data.sha256, RESCORE), record.data.key
    try:
        table = from_parquet(data, names)
    except (pa.ArrowException, KeyError, OSError) as error:
        what = str(error).splitlines()[0]
        raise LedgerError(f"{ledger.store.location(where)} is no score table: {what}", fix=RESCORE) from None
    if table.num_rows != record.seen:
        text = f"{ledger.store.location(where)} has {table.num_rows:,} rows, and its record says {record.seen:,}"
        raise LedgerError(text, fix=RESCORE)
    return table


def fields(ledger: Ledger, shard: ShardRef, column: Column) -> dict[str, pa.DataType]:
    """Names and types of the numbers and words of a column: one, or one a part of a struct; none of a vector."""
    return {name: part.type for name, part in read_parts(ledger, shard, column).items()}


def read_parts(
    ledger: Ledger, shard: ShardRef, column: Column, uids: pa.ChunkedArray | None = None
) -> dict[str, pa.ChunkedArray]:
    """The committed values of a unit and column, as `parts` names them; `uids` as `read` takes them."""
    return parts(column.name, read(ledger, shard, column, ["value"], uids).column("value"))


def parts(name: str, values: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """The columns `name` and values come to: `name.part` of a struct, nothing of a vector, else `name` itself."""
    if pa.types.is_struct(values.type):
        return {f"{name}.{part.name}": pc.struct_field(values, part.name) for part in values.type}
    return {} if is_vector(values.type) else {name: values}


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column of this type has vectors."""
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def load_units(
    scored: Ledger,
    shards: Iterable[ShardRef],
    columns: Sequence[Column],
    index: Sequence[str],
    vectors: Sequence[Column] = (),
    lengths: Callable[[pa.Table, ShardRef], pa.Array] | None = None,
    unreadable: Mapping[ShardRef, str] | None = None,
) -> Iterator[tuple[str | None, pa.Table]]:
    """For every shard in order: the unit's own reason (or None), and row, uid, reason, `index`, scores and vectors.

    `columns` is the index column, then score columns that are no vectors. `lengths` makes another `length` of the
    index' `offset`, `length` and `members`, where `length` is asked for. Raises `LedgerError` for a unit that has not
    been scored; a unit in `unreadable`, which says why, has a table without rows. Ahead of whoever takes them, units of
    256 MB are in memory, or two.
    """
    names = list(dict.fromkeys(["row", "uid", "reason", *index]))
    measure = lengths if "length" in index else None
    wanted = list(dict.fromkeys([*names, *(["offset", "length", "members"] if measure else [])]))

    def one(shard: ShardRef) -> tuple[str | None, pa.Table]:
        if unreadable and shard in unreadable:
            return unreadable[shard], pa.table({"row": pa.array([], pa.int32())})
        record = record_of(scored, shard, columns[0])
        table = _read(scored, shard, columns[0], record, wanted)
        uids = table.column("uid")
        if measure:
            at = table.schema.get_field_index("length")
            table = table.set_column(at, "length", measure(table, shard)).select(names)
        made = []
        for column in [*columns[1:], *vectors]:
            made.append(record_of(scored, shard, column))
            values = _read(scored, shard, column, made[-1], ["value"], uids).column("value")
            found = {column.name: vector_bytes(values)} if column in vectors else parts(column.name, values)
            for name, part in found.items():
                table = table.append_column(name, part)
        return record.reason, with_poison(table, made)

    yield from map_ordered(one, shards, weigh=lambda unit: unit[1].nbytes)
    pa.default_memory_pool().release_unused()  # 0.4 GB that Arrow had kept for the threads that are gone


def with_poison(table: pa.Table, records: Iterable[ScoreRecord]) -> pa.Table:
    """A unit's table whose `reason` also says which samples a scorer has no value for, since they are poison to it.

    The index' own reason comes first, then that of the first column that has one.
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


def has_value(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """[N] booleans: whether a row has a value. A struct has one where any of its parts does."""
    if not pa.types.is_struct(values.type):
        return pc.is_valid(values)
    found = pa.chunked_array([pa.array([False] * len(values), pa.bool_())])
    for part in values.type:
        found = pc.or_(found, pc.is_valid(pc.struct_field(values, part.name)))
    return found


def vector_bytes(values: pa.ChunkedArray) -> pa.Array:
    """A column of float16 vectors of one width as blobs of their bytes; null where one is, or isn't finite.

    A unit without a single vector doesn't know how wide they are, so blobs are of no fixed width.
    """
    array = values.combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.flatten().to_numpy(zero_copy_only=False)  # without those of nulls
    width = max(1, len(flat) // max(1, int(valid.sum())))
    halves = np.zeros((len(array), width), np.float16)
    halves[valid] = flat.reshape(-1, width)
    good = pa.array(valid & np.isfinite(halves).all(1))
    bitmap = good.buffers()[1]  # bits of a boolean are what a validity bitmap is
    return pa.Array.from_buffers(pa.binary(2 * width), len(array), [bitmap, pa.py_buffer(halves)]).cast(pa.binary())


def value_array(
    values: np.ndarray[Any, Any] | pa.Array,
    valid: np.ndarray[Any, np.dtype[np.bool_]],
    kind: pa.DataType | None = None,
) -> pa.Array:
    """[N] numbers -> `kind`, floats -> float32; [N, D] -> fixed-size lists of float16; Arrow as it is. Rows not valid
    become null.

    `kind` is what the scorer says it gives: another number or word is made one. Raises `UserError` for what can't be,
    whole numbers included that it doesn't hold.
    """
    try:
        array = _values(values, valid)
        if kind is None and isinstance(values, np.ndarray) and pa.types.is_floating(array.type):
            kind = pa.float32()
        if kind is None or array.type == kind or (is_vector(kind) and is_vector(array.type)):
            return array
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        fix = "what `values` says and what the scorer gives are one type"
        given, line = values.type if isinstance(values, pa.Array) else values.dtype, str(error).splitlines()[0]
        raise UserError(f"a scorer says it gives {kind}, and gives {given}: {line}", fix=fix) from None


def _values(values: np.ndarray[Any, Any] | pa.Array, valid: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    mask = pa.array(~valid)
    if isinstance(values, pa.StructArray):
        columns = [pc.if_else(mask, pa.scalar(None, part.type), part) for part in values.flatten()]
        return pa.StructArray.from_arrays(columns, fields=list(values.type))
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(values.astype(np.float16).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
    array = pa.array(values) if isinstance(values, np.ndarray) else values
    return pc.if_else(mask, pa.scalar(None, array.type), array)


@dataclass(frozen=True)
class ScoredUnit:
    """All rows of one unit in order, without its end row.

    `reason` is set when the archive itself is broken, `failure` when the store could not deliver it (commit nothing).
    """

    shard: ShardRef
    rows: pa.Table
    reason: str | None
    failure: str | None = None
    detail: str | None = None  # of the reason, in words


class Collector:
    """Gives streamed rows back to their units: batches cross units, tables don't.

    Rows may come in any order and more than once (a retried task repeats its rows); those of a unit that was whole
    before are let go. Memory: the rows of the units that are under way, without pixels, and 80 bytes a unit.
    """

    def __init__(self) -> None:
        self._pending: dict[ShardRef, _Rows] = {}
        self._done: set[bytes] = set()  # digests: references would be five times as large

    def add(self, table: pa.Table) -> Iterator[ScoredUnit]:
        """Take in some rows; yields every unit that has become whole."""
        for shard, rows in _runs(table):
            name = sha256(repr(tuple(shard)).encode()).digest()[:16]
            if name in self._done:
                continue
            pending = self._pending.setdefault(shard, _Rows())
            pending.add(rows)
            if (unit := pending.unit(shard)) is not None:
                if unit.failure is None:
                    self._done.add(name)
                del self._pending[shard]
                yield unit


class _Rows:
    """What has come of one unit."""

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []
        self.count = 0  # rows, repeated ones as well
        self.end: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        last = rows.column("end")
        if pc.any(last).as_py():
            self.end = rows.filter(last)
            rows = rows.filter(pc.invert(last))
        self.parts.append(rows)
        self.count += rows.num_rows

    def unit(self, shard: ShardRef) -> ScoredUnit | None:
        """The unit when its end row and all rows before it are there."""
        if self.end is None:
            return None
        expected, reason, detail = (self.end.column(name)[0].as_py() for name in ("row", "reason", "detail"))
        if 0 <= self.count < expected:
            return None
        rows = pa.concat_tables(self.parts)
        if expected < 0:
            return ScoredUnit(shard, rows, None, failure=reason)
        order = np.unique(rows.column("row").to_numpy(), return_index=True)[1]  # sorted, repeats dropped
        if len(order) < expected:
            self.parts = [rows.take(pa.array(order))]
            self.count = len(order)
            return None
        return ScoredUnit(shard, rows.take(pa.array(order)).combine_chunks(), reason, detail=detail)


def _runs(table: pa.Table) -> Iterator[tuple[ShardRef, pa.Table]]:
    """Split a table where the shard changes."""
    shards = list(
        zip(*(table.column(name).to_pylist() for name in ("shard_key", "shard_size", "shard_etag")), strict=True)
    )
    start = 0
    for stop in range(1, len(shards) + 1):
        if stop == len(shards) or shards[stop] != shards[start]:
            yield ShardRef(*shards[start]), table.slice(start, stop - start)
            start = stop


TYPES = {str(kind): kind for kind in (pa.float32(), pa.int32(), pa.int64(), pa.string())}  # that a score may have
