"""From score tables to decisions: load the columns that the filters need, run the filters, hand out the result.

The engine is DuckDB on a spool file: a sample costs about 60 bytes of local disk plus its filters' columns, and memory
is bounded by `memory_limit` whatever the corpus' size, and 0.8 GB beside it where duplicates are looked for; what is
decided spills to local disk beyond it. Nothing here moves image bytes or runs a model, so asking "what if" is as cheap
as deciding.

Order of precedence: quarantined (unreadable, or a score that isn't finite); on the drop list; the first filter that
drops; a list of weights that doesn't hold the sample; except that a usable sample on the keep list is kept whatever
filters and weights say. A kept sample weighs what the list of weights says; without one, what the filters that weigh
say of it (`filters.Weighs`), one times the other, or 1 (and 1 is what the keep list keeps anyhow).
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa

from curation.core.errors import ConservationError, RecipeError
from curation.curating import groups
from curation.filters import ComparingFilter, DuplicateFilter, PreparingFilter, WeightingFilter, flat, kind_of
from curation.filters.named import NamedFilter
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage import tables
from curation.storage.tables import quote as _quote

KEPT, FILTERED, QUARANTINED = "kept", "filtered", "quarantined"
ROWS_AT_ONCE = 1 << 16  # of decisions, handed out
LISTS = -1  # the place, among filters, of the lists of uids and of weights
# A set of samples as bits, 65,536 samples a row in the order of their ids: to pass over what is in it, or what is not,
# takes a fifth of the time of a join with the ids.
_BLOCK, _BIT = "id >> 16", "(id & 65535)::INTEGER"
BITS = f"SELECT {_BLOCK} AS block, bitstring_agg({_BIT}, 0, 65535) AS bits"  # FROM what has ids GROUP BY block
IN_SET, NOT_IN_SET = f"get_bit(gone.bits, {_BIT}) = 1", f"coalesce(get_bit(gone.bits, {_BIT}), 0) = 0"
OF_BLOCK = f"ON {_BLOCK} = gone.block"  # JOIN such a table, called gone; LEFT JOIN it for what is not in it
_SQL_TYPES = {pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float32(): "FLOAT"}


class Decisions:
    """One decision over one plan. Use as a context manager; the spool is deleted on exit."""

    def __init__(
        self,
        spool: Path,
        index: Sequence[str],
        scores: Mapping[str, pa.DataType],
        vectors: Sequence[str] = (),
        *,
        made: Mapping[str, str] | None = None,
        memory: str = "2GB",
        kept: Path | None = None,
    ) -> None:
        """`index`, `scores` and `vectors` are the columns that will be loaded; scores with their types.

        `made`: small numbers to be kept beside them (UTINYINT), by the SQL that makes them of the index's columns.
        `kept`: a file that another engine has left of just these (`keep`); then nothing is to be loaded.
        """
        self.index, self.scores, self.vectors = list(index), dict(scores), list(vectors)
        self.made = dict(made or {})
        self.path, self.memory = spool / "decisions.duckdb", memory
        self.rows = self.checked = 0
        # What is loaded lies in a file of its own: filters' tables don't belong to it.
        self._loaded, self._is_own = kept or spool / "loaded.duckdb", kept is None
        with tables.local_disk("opening the decision engine", spool):
            self.db = tables.connect(self.path, spill=spool, memory=memory, files=[self._loaded])
            if self._is_own:
                self._make_pool()
            else:
                self._take_over()
            # What is decided is kept beside the file: it spills as well, and is neither compressed nor logged.
            self.db.execute("ATTACH ':memory:' AS decided")
            self.clear()

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        """Close and delete the spool. A full disk, met by any query of the engine, is raised as `LocalDiskError`."""
        self.db.close()
        self.path.unlink(missing_ok=True)
        if self._is_own:
            self._loaded.unlink(missing_ok=True)
        if isinstance(value, Exception) and (full := tables.disk_error(value, "deciding", self.path.parent)):
            raise full from None

    def _make_pool(self) -> None:
        columns = [f"{_quote(n)} {_SQL_TYPES[INDEX_SCHEMA.field(n).type]}" for n in self.index]
        columns += [f"{_quote(n)} {_SQL_TYPES[kind]}" for n, kind in self.scores.items()]
        columns += [f"{_quote(n)} BLOB" for n in self.vectors]
        columns += [f"{_quote(n)} UTINYINT" for n in self.made]
        fixed = ["id BIGINT", "unit INTEGER", "row INTEGER", "uid VARCHAR", "bad VARCHAR"]
        self.db.execute(f"ATTACH {tables.text(self._loaded)} AS loaded")
        self.db.execute(f"CREATE TABLE loaded.pool ({', '.join(fixed + columns)})")
        self.db.execute("CREATE VIEW pool AS FROM loaded.pool")

    def _take_over(self) -> None:
        self.db.execute(f"ATTACH {tables.text(self._loaded)} AS loaded (READ_ONLY)")
        self.db.execute("CREATE VIEW pool AS FROM loaded.pool")
        self.rows = self.checked = self.db.execute("FROM loaded.rows").fetchall()[0][0]

    def loaded_bytes(self) -> int:
        """What is loaded takes so much of local disk."""
        self.db.execute("CHECKPOINT loaded")
        return self._loaded.stat().st_size

    def keep(self, path: Path) -> None:
        """Leave a copy of what is loaded at `path` for other engines, whole or not at all. Raises `OSError`."""
        self._check_uids()
        self.db.execute(f"CREATE TABLE loaded.rows AS SELECT {self.rows} AS rows")
        self.db.execute("DROP VIEW IF EXISTS alive; DROP VIEW pool; DETACH loaded")  # so that it is whole
        part = path.with_suffix(f".{uuid4().hex}.part")
        try:
            try:
                os.link(self._loaded, part)
            except OSError:  # on another disk
                shutil.copyfile(self._loaded, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
            self._take_over()

    def load(self, units: Iterable[tuple[int, pa.Table]]) -> None:
        """Take in units in plan order: (ordinal, table of row, uid, reason, the needed columns). Batched inserts."""
        for batch in _batched(self._numbered(units)):
            try:
                self._insert(batch)
            except duckdb.OutOfMemoryException as error:
                self._raise_full("loading the scores", error)
                raise _too_little("loading the scores", self.memory, error) from None

    def _numbered(self, units: Iterable[tuple[int, pa.Table]]) -> Iterator[pa.Table]:
        for ordinal, table in units:
            n = table.num_rows
            ids = pa.array(np.arange(self.rows, self.rows + n))
            unit = pa.array(np.full(n, ordinal, np.int32))
            self.rows += n
            yield table.append_column("id", ids).append_column("unit", unit)

    def _insert(self, incoming: pa.Table) -> None:
        self.db.register("incoming", incoming)
        bad = ["reason"]
        kinds = self.scores | dict.fromkeys(self.vectors, pa.binary())
        for name, kind in kinds.items():  # NaN and inf are quarantined, never compared
            bad.append(f"CASE WHEN {_no_value(name, kind)} THEN 'score_not_finite' END")
        columns = [*map(_quote, [*self.index, *self.scores, *self.vectors]), *self.made.values()]
        fixed = ["id, unit, row, uid", f"coalesce({', '.join(bad)})"]
        self.db.execute(f"INSERT INTO loaded.pool SELECT {', '.join([*fixed, *columns])} FROM incoming")
        self.db.unregister("incoming")

    def load_others(
        self,
        name: str,
        columns: Sequence[str],
        snapshots: Sequence[tuple[bool, pa.RecordBatchReader, Iterable[pa.Table]]],
    ) -> None:
        """Fill the table `name` with what other snapshots keep: snapshot (its place), own, uid, content_hash, columns.

        Each comes as whether it is an earlier one of the same dataset, its manifest (uid, decision) and its samples'
        tables (uid, content_hash, columns).
        """
        kinds = {column: "BLOB" if column in self.vectors else _SQL_TYPES[self.scores[column]] for column in columns}
        told = "".join(f", {_quote(column)} {kind}" for column, kind in kinds.items())
        fixed = "snapshot INTEGER, own BOOLEAN, uid VARCHAR, content_hash VARCHAR"
        self.db.execute(f"CREATE OR REPLACE TABLE {name} ({fixed}{told})")
        for place, (own, manifest, units) in enumerate(snapshots):
            self.db.execute("CREATE TEMP TABLE others_kept (uid VARCHAR)")
            for rows in manifest:  # not read by DuckDB itself, which makes every error one of its own
                self.db.register("incoming", rows)
                self.db.execute("INSERT INTO others_kept SELECT uid FROM incoming WHERE decision = 'kept'")
                self.db.unregister("incoming")
            for batch in _batched(units):
                self.db.register("incoming", batch)
                kept = "incoming SEMI JOIN others_kept USING (uid)"
                self.db.execute(f"INSERT INTO {name} SELECT {place}, {own}, * FROM {kept}")
                self.db.unregister("incoming")
            self.db.execute("DROP TABLE others_kept")

    def _raise_full(self, what: str, error: duckdb.Error) -> None:
        if full := tables.disk_error(error, what, self.path.parent):
            raise full from None

    def clear(self) -> None:
        """Forget what was decided; what was loaded stays."""
        matched = "filter VARCHAR, against VARCHAR, id BIGINT, how VARCHAR, other VARCHAR, value DOUBLE"
        self.db.execute(f"""
            CREATE OR REPLACE TABLE decided.dropped (id BIGINT, reason VARCHAR, place SMALLINT);
            CREATE OR REPLACE TABLE decided.rescued (id BIGINT);
            CREATE OR REPLACE TABLE decided.matched ({matched});
            CREATE OR REPLACE TABLE decided.weighed (id BIGINT, weight DOUBLE);
            CREATE OR REPLACE TABLE decided.gone (block BIGINT, bits BIT);
            DROP VIEW IF EXISTS alive; DROP TABLE IF EXISTS keep_list; DROP TABLE IF EXISTS drop_list""")
        groups.make_table(self.db, "decided.grouped")

    def decide(
        self,
        filters: Sequence[NamedFilter],
        keep: pa.Array | None = None,
        drop: pa.Array | None = None,
        weights: pa.Table | None = None,
    ) -> None:
        """Run the filters in order, with the lists of uids that override them; `weights`: uid, weight (float32)."""
        self._check_uids()
        self._list("keep_list", keep)
        self._list("drop_list", drop)
        both = self.db.execute("SELECT uid FROM keep_list SEMI JOIN drop_list USING (uid) LIMIT 1").fetchall()
        if both:
            raise RecipeError(
                f"uid {both[0][0]} is on the keep list and on the drop list", fix="take it off one of them"
            )
        self._drop("SELECT id, 'drop_list' AS reason FROM pool SEMI JOIN drop_list USING (uid) WHERE bad IS NULL")
        self.db.execute(
            "CREATE VIEW alive AS "
            f"SELECT pool.* FROM pool LEFT JOIN decided.gone {OF_BLOCK} WHERE {NOT_IN_SET} AND bad IS NULL"
        )
        for place, item in enumerate(filters):
            try:
                self._filter(item, place)
            except duckdb.Error as error:
                self._raise_full(f"filter {item.name}", error)
                kinds = self.scores | dict.fromkeys(self.vectors, "vectors")
                if told := _explained(error, item, kinds, self.memory):
                    raise told from None
                error.add_note(f"in filter {item.name}")
                raise
        self._weigh(weights)
        self.db.execute(
            "INSERT INTO decided.rescued "
            "SELECT id FROM pool SEMI JOIN keep_list USING (uid) SEMI JOIN decided.dropped USING (id)"
        )
        if keep is not None:
            self._mark_gone()

    def _filter(self, item: NamedFilter, place: int) -> None:
        """Drop what a filter drops, and weigh what it keeps, if it says so. `place`: which of the filters it is."""
        if isinstance(item.filter, PreparingFilter):
            item.filter.prepare(self.db)
        copies = isinstance(item.filter, DuplicateFilter)
        query = item.filter.copies() if isinstance(item.filter, DuplicateFilter) else item.filter.drops()
        self.db.execute(
            "CREATE TEMP TABLE leaving AS SELECT id, CASE WHEN detail = '' THEN $name ELSE $name || '.' || detail "
            f"END AS reason{', stays' if copies else ''} FROM ({query})",
            {"name": item.name},
        )
        if isinstance(item.filter, WeightingFilter) and (weighs := item.filter.weighs()):
            sure = "SELECT id FROM pool SEMI JOIN keep_list USING (uid)"
            self._multiply(f"SELECT * FROM ({weighs}) ANTI JOIN leaving USING (id) ANTI JOIN ({sure}) USING (id)")
        self._group(item, place)
        self._drop("SELECT id, reason FROM leaving", place)
        for part in flat([item.filter]):
            if isinstance(part, ComparingFilter):
                self.db.execute(
                    "INSERT INTO decided.matched SELECT $name, $against[snapshot + 1], * EXCLUDE (snapshot) FROM "
                    f"({part.matches()}) SEMI JOIN leaving USING (id)",
                    {"name": item.name, "against": list(part.against)},
                )
        self.db.execute("DROP TABLE leaving")

    def _group(self, item: NamedFilter, place: int) -> None:
        """Note the largest groups of what is leaving: of a filter of duplicates, or of those that it is made of."""
        for part in flat([item.filter]):
            if part is item.filter and isinstance(part, DuplicateFilter):
                groups.collect(self.db, "decided.grouped", place, item.name, "leaving")
            elif isinstance(part, DuplicateFilter):
                copies = f"SELECT id, stays FROM ({part.copies()}) SEMI JOIN leaving USING (id)"
                self.db.execute(f"CREATE TEMP TABLE copies_leaving AS {copies}")
                groups.collect(self.db, "decided.grouped", place, item.name, "copies_leaving")
                self.db.execute("DROP TABLE copies_leaving")

    def _drop(self, query: str, place: int = LISTS) -> None:
        """Drop what a query says: `id, reason`."""
        self.db.execute(f"INSERT INTO decided.dropped SELECT id, reason, {place} FROM ({query})")
        self._mark_gone()

    def _mark_gone(self) -> None:
        """Gone is what is dropped and not rescued: in the end, `alive` is what is kept."""
        gone = f"{BITS} FROM decided.dropped ANTI JOIN decided.rescued USING (id) GROUP BY block"
        self.db.execute(f"CREATE OR REPLACE TABLE decided.gone AS {gone}")

    def _check_uids(self) -> None:
        """Raises `ConservationError` when a uid is there twice. Once for what is loaded."""
        if self.checked == self.rows:
            return
        repeated = self.db.execute("SELECT uid FROM pool GROUP BY uid HAVING count(*) > 1 LIMIT 1").fetchall()
        if repeated:
            raise ConservationError(f"uid {repeated[0][0]} occurs twice in the corpus: a shard is listed twice")
        self.checked = self.rows

    def _weigh(self, weights: pa.Table | None) -> None:
        """Samples that a list of weights leaves out are dropped; the others weigh what it says, whatever filters do: a
        data policy counts how often a sample was met, by weights of its snapshot among other things."""
        if weights is None:
            return
        self.db.register("incoming", weights)
        self.db.execute("CREATE TEMP TABLE listed AS SELECT id, weight FROM pool JOIN incoming USING (uid)")
        self.db.unregister("incoming")
        self._drop("SELECT id, 'weights' AS reason FROM alive ANTI JOIN listed USING (id)")
        self.db.execute("CREATE OR REPLACE TABLE decided.weighed AS SELECT id, weight::DOUBLE AS weight FROM listed")
        self.db.execute("DROP TABLE listed")

    def _multiply(self, weights: str) -> None:
        """Multiply the weights by those that a query says: `id, weight`, each id once; what it leaves out stays."""
        self.db.execute(f"""
            CREATE TABLE decided.product AS
            SELECT id, coalesce(w.weight, 1) * coalesce(f.weight, 1) AS weight
            FROM decided.weighed w FULL JOIN ({weights}) f USING (id)""")
        self.db.execute("DROP TABLE decided.weighed; ALTER TABLE decided.product RENAME TO weighed")

    def _list(self, name: str, uids: pa.Array | None) -> None:
        table = pa.table({"uid": pa.array([], pa.string()) if uids is None else uids})
        self.db.register("incoming", table)
        self.db.execute(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT uid FROM incoming")
        self.db.unregister("incoming")

    _FINAL = """
        SELECT unit, row, CASE WHEN bad IS NOT NULL THEN 'quarantined' WHEN d.id IS NOT NULL AND r.id IS NULL
               THEN 'filtered' ELSE 'kept' END AS decision,
               CASE WHEN bad IS NOT NULL THEN bad WHEN r.id IS NULL THEN d.reason END AS reason,
               CASE WHEN bad IS NOT NULL OR (d.id IS NOT NULL AND r.id IS NULL) THEN 0
               ELSE coalesce(w.weight, 1) END::FLOAT AS weight
        FROM pool LEFT JOIN decided.dropped d USING (id) LEFT JOIN decided.rescued r USING (id)
        LEFT JOIN decided.weighed w USING (id)"""

    def not_finite(self) -> dict[str, int]:
        """For each score that is not finite or missing for some samples: how many. One pass."""
        kinds = self.scores | dict.fromkeys(self.vectors, pa.binary())
        counts = [f"count(*) FILTER (bad = 'score_not_finite' AND {_no_value(name, kinds[name])})" for name in kinds]
        if not counts:
            return {}
        (found,) = self.db.execute(f"SELECT {', '.join(counts)} FROM pool").fetchall()
        return {name: n for name, n in zip(kinds, found, strict=True) if n}

    def kept_per_unit(self) -> Iterator[tuple[int, int, int]]:
        """(ordinal, kept, rows) of every unit that has rows, in order."""
        cursor = self.db.cursor().execute(
            "SELECT unit, count(*) FILTER (decision = 'kept'), count(*) "
            f"FROM ({self._FINAL}) GROUP BY unit ORDER BY unit"
        )
        while rows := cursor.fetchmany(1000):
            yield from rows

    def of_groups(self, bounds: Iterable[tuple[int, int]]) -> Iterator[pa.Table]:
        """Decisions of units first..last (inclusive) for each pair of `bounds`: unit, row, decision, reason, weight.

        Bounds ascend and do not overlap. All groups come of one pass over the samples, sorted once within the engine's
        memory and streamed: the rows of one group and one batch are held here.
        """
        reader = self.db.cursor().sql(f"{self._FINAL} ORDER BY id").to_arrow_reader(ROWS_AT_ONCE)
        left: pa.RecordBatch | None = None
        for first, last in bounds:
            group: list[pa.RecordBatch] = []
            while left is not None or (left := next(reader, None)) is not None:
                unit = left.column(0).to_numpy()
                start, stop = np.searchsorted(unit, first), np.searchsorted(unit, last, side="right")
                group.append(left.slice(start, stop - start))
                if stop < len(unit):
                    left = left.slice(stop)
                    break
                left = None
            yield pa.Table.from_batches(group, reader.schema)

    def of_units(self, first: int, last: int) -> pa.Table:
        """Decisions of units first..last (inclusive), sorted. A pass over all: for several groups use `of_groups`."""
        return next(self.of_groups([(first, last)]))

    def matches(self) -> pa.RecordBatchReader:
        """What filters that compare have found, some of it in memory at a time: uid, filter, how, value, against, other
        (a uid there); sorted."""
        query = (
            "SELECT uid, m.filter, m.how, m.value, m.against, m.other FROM decided.matched AS m JOIN pool USING (id) "
            "ORDER BY ALL"
        )
        return self.db.sql(query).to_arrow_reader(10_000)

    def groups(self) -> list[groups.GroupExample]:
        """The largest groups of duplicates of every filter that drops a sample for another one."""
        return groups.groups(self.db, "decided.grouped")

    def drops(self) -> dict[tuple[int, str], int]:
        """How many samples each filter (by its place, or `LISTS`) drops for each reason, those included that the keep
        list rescues."""
        rows = self.db.execute("SELECT place, reason, count(*) FROM decided.dropped GROUP BY place, reason").fetchall()
        return {(place, reason): count for place, reason, count in rows}

    def totals(self, drops: Mapping[tuple[int, str], int] | None = None) -> Mapping[str, object]:
        """seen, kept, filtered {reason: n}, quarantined {reason: n} over everything; `drops`, where known already."""
        bad = self.db.execute("SELECT bad, count(*) FROM pool WHERE bad IS NOT NULL GROUP BY bad").fetchall()
        filtered = Counter[str]()
        for (_, reason), count in (self.drops() if drops is None else drops).items():
            filtered[reason] += count
        rescued = "SELECT reason, count(*) FROM decided.dropped SEMI JOIN decided.rescued USING (id) GROUP BY reason"
        filtered.subtract(dict(self.db.execute(rescued).fetchall()))
        kept = self.rows - sum(n for _, n in bad) - filtered.total()
        rows = [(FILTERED, reason, n) for reason, n in filtered.items() if n]
        return tally([(KEPT, None, kept), *rows, *((QUARANTINED, reason, n) for reason, n in bad)])


def tally(rows: Iterable[tuple[str, str | None, int]]) -> dict[str, object]:
    """Counts as every report shows them, from (decision, reason, n)."""
    kept, filtered, quarantined = 0, dict[str, int](), dict[str, int]()
    for decision, reason, n in rows:
        if decision == KEPT:
            kept += n
        else:
            into = filtered if decision == FILTERED else quarantined
            into[reason or ""] = into.get(reason or "", 0) + n
    seen = kept + sum(filtered.values()) + sum(quarantined.values())
    ordered = (dict(sorted(counts.items())) for counts in (filtered, quarantined))
    return {"seen": seen, "kept": kept, **dict(zip((FILTERED, QUARANTINED), ordered, strict=True))}


def _no_value(name: str, kind: pa.DataType) -> str:
    """SQL of whether a score is missing or not finite."""
    finite = f" OR NOT isfinite({_quote(name)})" if pa.types.is_floating(kind) else ""
    return f"({_quote(name)} IS NULL{finite})"


def _batched(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: of at least 100,000 rows or 1000 tables, but for the last."""
    batch: list[pa.Table] = []
    pending = 0
    for table in tables:
        batch.append(table)
        pending += table.num_rows
        if pending >= 100_000 or len(batch) >= 1000:
            yield pa.concat_tables(batch)
            batch, pending = [], 0
    if batch:
        yield pa.concat_tables(batch)


def _explained(error: duckdb.Error, item: NamedFilter, kinds: Mapping[str, Any], memory: str) -> RecipeError | None:
    """What a filter's query came to, as one line for the recipe's author; None for what no recipe can mend. `kinds`:
    of scores."""
    line, name = str(error).splitlines()[0], item.name
    if isinstance(error, duckdb.OutOfMemoryException):
        return _too_little(f"filter {name}", memory, error)
    fix = f"curate rooms filters {kind_of(item.filter) or name} says which it takes"
    if isinstance(error, duckdb.BinderException):
        read = ", ".join(f"{column} ({kinds[column]})" for column in item.filter.columns() if column in kinds)
        return RecipeError(f"filter {name} can't read its columns, of another kind than it takes: {read}", fix=fix)
    if isinstance(error, duckdb.DataError | duckdb.ProgrammingError):
        return RecipeError(f"filter {name} can't compute with its settings and columns: {line}", fix=fix)
    return None


def _too_little(what: str, memory: str, error: duckdb.Error) -> RecipeError:
    text = f"{what} needs more memory than compute.memory, {memory}: {str(error).splitlines()[0]}"
    return RecipeError(text, fix="give it more, such as --set compute.memory=8GB")
