"""From score tables to decisions: load the columns that the filters need, run the filters, hand out the result.

The engine is DuckDB on a spool file: a sample costs about 60 bytes of local disk plus its filters' columns, and memory
is bounded by `memory_limit` whatever the corpus' size. Nothing here moves image bytes or runs a model, so asking "what
if" is as cheap as deciding.

Order of precedence: quarantined (unreadable, or a score that isn't finite); on the drop list; the first filter that
drops; a list of weights that doesn't hold the sample; except that a usable sample on the keep list is kept whatever
filters and weights say. A kept sample weighs what the list of weights says, or 1, times what the filters that weigh
say of it (`filters.Weighs`; 1 for what the keep list keeps anyhow).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.errors import ConservationError, RecipeError
from curation.filters import Compares, Filter, Prepares, Weighs, flat
from curation.units import INDEX_SCHEMA

KEPT, FILTERED, QUARANTINED = "kept", "filtered", "quarantined"
_SQL_TYPES = {pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float32(): "FLOAT"}


@dataclass(frozen=True)
class NamedFilter:
    """A filter under the name by which its reasons are counted."""

    name: str
    filter: Filter


def described(item: Filter) -> list[Any]:
    """What decides a filter's drops, as JSON: its type and fields; of one made of others, theirs."""
    fields = {
        name: [described(part) for part in value] if isinstance(value, tuple) and name == "of" else value
        for name, value in vars(item).items()
    }
    return [type(item).__name__, fields]


def columns_needed(filters: Sequence[NamedFilter]) -> tuple[list[str], list[str]]:
    """(index columns, score columns) that the filters read."""
    names = sorted({name for item in filters for name in item.filter.columns()})
    return [n for n in names if n in INDEX_SCHEMA.names], [n for n in names if n not in INDEX_SCHEMA.names]


class Decisions:
    """One decision over one plan. Use as a context manager; the spool is deleted on exit."""

    def __init__(
        self,
        spool: Path,
        index: Sequence[str],
        scores: Mapping[str, pa.DataType],
        vectors: Sequence[str] = (),
        *,
        memory: str = "2GB",
    ) -> None:
        """`index`, `scores` and `vectors` are the columns that will be loaded; scores with their types."""
        self.index, self.scores, self.vectors = list(index), dict(scores), list(vectors)
        self.path = spool / "decisions.duckdb"
        self.db = duckdb.connect(str(self.path), config={"memory_limit": memory, "temp_directory": str(spool)})
        self.db.execute("SET preserve_insertion_order = false")
        columns = [f"{_quote(n)} {_SQL_TYPES[INDEX_SCHEMA.field(n).type]}" for n in self.index]
        columns += [f"{_quote(n)} {_SQL_TYPES[kind]}" for n, kind in self.scores.items()]
        columns += [f"{_quote(n)} BLOB" for n in self.vectors]
        fixed = ["id BIGINT", "unit INTEGER", "row INTEGER", "uid VARCHAR", "bad VARCHAR"]
        self.db.execute(f"CREATE TABLE pool ({', '.join(fixed + columns)})")
        self.db.execute("CREATE TABLE dropped (id BIGINT, reason VARCHAR)")
        self.db.execute("CREATE TABLE rescued (id BIGINT)")
        matched = "filter VARCHAR, against VARCHAR, id BIGINT, how VARCHAR, other VARCHAR, value DOUBLE"
        self.db.execute(f"CREATE TABLE matched ({matched})")
        self.rows = self.checked = 0

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.db.close()
        self.path.unlink(missing_ok=True)

    def load(self, units: Iterable[tuple[int, pa.Table]]) -> None:
        """Take in units in plan order: (ordinal, table of row, uid, reason, the needed columns). Batched inserts."""
        batch: list[pa.Table] = []
        pending = 0
        for ordinal, table in units:
            n = table.num_rows
            ids = pa.array(np.arange(self.rows, self.rows + n))
            unit = pa.array(np.full(n, ordinal, np.int32))
            batch.append(table.append_column("id", ids).append_column("unit", unit))
            self.rows += n
            pending += n
            if pending >= 100_000 or len(batch) >= 1000:
                self._insert(batch)
                batch, pending = [], 0
        if batch:
            self._insert(batch)

    def _insert(self, tables: Sequence[pa.Table]) -> None:
        incoming = pa.concat_tables(tables)
        self.db.register("incoming", incoming)
        bad = "reason"
        kinds = self.scores | dict.fromkeys(self.vectors, pa.binary())
        for name, kind in kinds.items():  # NaN and inf are quarantined, never compared
            finite = f" OR NOT isfinite({_quote(name)})" if pa.types.is_floating(kind) else ""
            bad = f"coalesce({bad}, CASE WHEN {_quote(name)} IS NULL{finite} THEN 'score_not_finite' END)"
        columns = ", ".join(_quote(n) for n in [*self.index, *self.scores, *self.vectors])
        extra = f", {columns}" if columns else ""
        self.db.execute(f"INSERT INTO pool SELECT id, unit, row, uid, {bad}{extra} FROM incoming")
        self.db.unregister("incoming")

    def load_others(
        self, name: str, columns: Sequence[str], snapshots: Sequence[tuple[pa.RecordBatchReader, Iterable[pa.Table]]]
    ) -> None:
        """Fill the table `name` with what other snapshots keep: snapshot (its place), uid, content_hash, columns.

        Each comes as its manifest (uid, decision) and its samples' tables (uid, content_hash, columns).
        """
        kinds = {column: "BLOB" if column in self.vectors else _SQL_TYPES[self.scores[column]] for column in columns}
        told = "".join(f", {_quote(column)} {kind}" for column, kind in kinds.items())
        self.db.execute(f"CREATE OR REPLACE TABLE {name} (snapshot INTEGER, uid VARCHAR, content_hash VARCHAR{told})")
        for place, (manifest, tables) in enumerate(snapshots):
            self.db.register("manifest", manifest)
            self.db.execute("CREATE TEMP TABLE others_kept AS SELECT uid FROM manifest WHERE decision = 'kept'")
            self.db.unregister("manifest")
            for table in tables:
                self.db.register("incoming", table)
                self.db.execute(f"INSERT INTO {name} SELECT {place}, * FROM incoming SEMI JOIN others_kept USING (uid)")
                self.db.unregister("incoming")
            self.db.execute("DROP TABLE others_kept")

    def clear(self) -> None:
        """Forget what was decided; what was loaded stays."""
        self.db.execute("DELETE FROM dropped; DELETE FROM rescued; DELETE FROM matched")
        self.db.execute("DROP VIEW IF EXISTS alive")
        for name in ("keep_list", "drop_list", "weighed"):
            self.db.execute(f"DROP TABLE IF EXISTS {name}")

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
        self.db.execute(
            "INSERT INTO dropped SELECT id, 'drop_list' FROM pool SEMI JOIN drop_list USING (uid) WHERE bad IS NULL"
        )
        self.db.execute("CREATE TABLE weighed (id BIGINT, weight DOUBLE)")
        self.db.execute("CREATE VIEW alive AS SELECT * FROM pool ANTI JOIN dropped USING (id) WHERE bad IS NULL")
        for item in filters:
            try:
                self._filter(item)
            except duckdb.BinderException as error:  # a column of another kind than it takes
                line = str(error).splitlines()[0]
                fix = f"curate rooms filters {item.name} says which it takes"
                raise RecipeError(f"filter {item.name} can't read its columns: {line}", fix=fix) from None
        self._weigh(weights)
        self.db.execute(
            "INSERT INTO rescued SELECT id FROM pool SEMI JOIN keep_list USING (uid) SEMI JOIN dropped USING (id)"
        )

    def _filter(self, item: NamedFilter) -> None:
        """Drop what a filter drops, and weigh what it keeps, if it says so."""
        if isinstance(item.filter, Prepares):
            item.filter.prepare(self.db)
        self.db.execute(
            "CREATE TEMP TABLE leaving AS SELECT id, CASE WHEN detail = '' THEN $name ELSE $name || '.' || detail "
            f"END AS reason FROM ({item.filter.drops()})",
            {"name": item.name},
        )
        if isinstance(item.filter, Weighs) and (weighs := item.filter.weighs()):
            sure = "SELECT id FROM pool SEMI JOIN keep_list USING (uid)"
            self._multiply(f"SELECT * FROM ({weighs}) ANTI JOIN leaving USING (id) ANTI JOIN ({sure}) USING (id)")
        self.db.execute("INSERT INTO dropped SELECT * FROM leaving")
        for part in flat([item.filter]):
            if isinstance(part, Compares):
                self.db.execute(
                    "INSERT INTO matched SELECT $name, $against[snapshot + 1], * EXCLUDE (snapshot) FROM "
                    f"({part.matches()}) SEMI JOIN leaving USING (id)",
                    {"name": item.name, "against": list(part.against)},
                )
        self.db.execute("DROP TABLE leaving")

    def _check_uids(self) -> None:
        """Raises `ConservationError` when a uid is there twice. Once for what is loaded."""
        if self.checked == self.rows:
            return
        repeated = self.db.execute("SELECT uid FROM pool GROUP BY uid HAVING count(*) > 1 LIMIT 1").fetchall()
        if repeated:
            raise ConservationError(f"uid {repeated[0][0]} occurs twice in the corpus: a shard is listed twice")
        self.checked = self.rows

    def _weigh(self, weights: pa.Table | None) -> None:
        """Samples that a list of weights leaves out are dropped; the others' weights are multiplied by it."""
        if weights is None:
            return
        self.db.register("incoming", weights)
        self.db.execute("CREATE TEMP TABLE listed AS SELECT id, weight FROM pool JOIN incoming USING (uid)")
        self.db.unregister("incoming")
        self.db.execute("INSERT INTO dropped SELECT id, 'weights' FROM alive ANTI JOIN listed USING (id)")
        self._multiply("SELECT id, weight FROM listed")
        self.db.execute("DROP TABLE listed")

    def _multiply(self, weights: str) -> None:
        """Multiply the weights by those that a query says: `id, weight`, each id once; what it leaves out stays."""
        self.db.execute(f"""
            CREATE TABLE product AS
            SELECT id, coalesce(w.weight, 1) * coalesce(f.weight, 1) AS weight
            FROM weighed w FULL JOIN ({weights}) f USING (id)""")
        self.db.execute("DROP TABLE weighed; ALTER TABLE product RENAME TO weighed")

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
        FROM pool LEFT JOIN dropped d USING (id) LEFT JOIN rescued r USING (id) LEFT JOIN weighed w USING (id)"""

    def kept_per_unit(self) -> Iterator[tuple[int, int, int]]:
        """(ordinal, kept, rows) of every unit that has rows, in order."""
        cursor = self.db.cursor().execute(
            "SELECT unit, count(*) FILTER (decision = 'kept'), count(*) "
            f"FROM ({self._FINAL}) GROUP BY unit ORDER BY unit"
        )
        while rows := cursor.fetchmany(1000):
            yield from rows

    def of_units(self, first: int, last: int) -> pa.Table:
        """Decisions of units first..last (inclusive): unit, row, decision, reason, weight; sorted."""
        query = f"{self._FINAL} WHERE unit BETWEEN {first} AND {last} ORDER BY unit, row"
        return self.db.sql(query).to_arrow_table()

    def matches(self) -> pa.Table:
        """What filters that compare have found: uid, filter, how, value, against, other (a uid there); by uid."""
        query = (
            "SELECT uid, filter, how, value, against, other FROM matched JOIN pool USING (id) ORDER BY uid, filter, how"
        )
        return self.db.sql(query).to_arrow_table()

    def totals(self) -> Mapping[str, object]:
        """seen, kept, filtered {reason: n}, quarantined {reason: n} over everything."""
        rows = self.db.execute(f"SELECT decision, reason, count(*) FROM ({self._FINAL}) GROUP BY ALL").fetchall()
        return tally(rows)


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


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
