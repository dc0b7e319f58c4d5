"""Merge edit lists, find where they contradict each other, compare two: pure functions over Arrow tables.

Two edits of one sample contradict each other where they ask for different things: to keep and to drop it, two weights,
two values of one field. `merge` refuses such lists, or takes the later list's edit (`last_wins`). Edits that ask for
the same thing are one edit; the first `from`, `by` and `at_run` in sorted order stay. So `merge` is associative and
idempotent, and without `last_wins` the order of lists and rows never matters.

Cost: a sort of all rows in DuckDB, 5 us of CPU a row; it spills to local disk beyond 2 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.core.errors import ContradictingEditsError
from curation.ledger.edit_lists import EDIT_SCHEMA, MEMORY, SLOT, VERDICT
from curation.ledger.uid_lists import UidList
from curation.storage.tables import scratch

if TYPE_CHECKING:
    import duckdb

#: Columns of `contradictions`: the sample, what the edits are about, both lists and what each of them asks for.
CONTRADICTION_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("uid", "slot", "left", "left_asks", "right", "right_asks")]
)
#: Columns of `diff`. `change`: added, removed or changed. `slot`: decision, weight, add or replace.<field>.
DIFF_SCHEMA = pa.schema([(name, pa.string()) for name in ("uid", "slot", "change", "before", "after")])
FIX = "remove one of the two edits, or write `edits: {lists: [...], order: last_wins}`"

Named = tuple[str, pa.Table]  # an edit list: its name in messages, its rows (`EDIT_SCHEMA`)


def merge(lists: Sequence[Named], *, last_wins: bool = False) -> pa.Table:
    """Merge edit lists into one table of `EDIT_SCHEMA`, sorted: one row for each sample and slot.

    `last_wins`: of contradicting edits, take the one in the later list. Raises `ContradictingEditsError` otherwise.
    """
    with _every(lists) as db:
        if not last_wins and (found := _contradictions(db, lists, 1)).num_rows:
            raise contradicting(found)
        order = "place DESC, " if last_wins else ""
        names = ", ".join(f'"{name}"' for name in EDIT_SCHEMA.names)
        rows = db.sql(
            f"SELECT {names} FROM every QUALIFY row_number() OVER "
            f"(PARTITION BY uid, slot ORDER BY {order}{names}) = 1 ORDER BY ALL"
        )
        return rows.to_arrow_table().cast(EDIT_SCHEMA).combine_chunks()


def contradictions(lists: Sequence[Named], most: int | None = None) -> pa.Table:
    """Return where the lists contradict each other as `CONTRADICTION_SCHEMA`, sorted; at most `most` rows."""
    with _every(lists) as db:
        return _contradictions(db, lists, most)


def contradicting(found: pa.Table) -> ContradictingEditsError:
    """Return the error for the first row of `contradictions`."""
    row = found.slice(0, 1).to_pylist()[0]
    left, right = _asks(row["slot"], row["left_asks"]), _asks(row["slot"], row["right_asks"])
    text = f"uid {row['uid']}: {row['left']} {left}, but {row['right']} {right}"
    return ContradictingEditsError(text, fix=FIX)


def _asks(slot: str, verdict: str, most: int = 60) -> str:
    """What an edit asks for, in words: continues a sentence whose subject is its list."""
    shown = verdict if len(verdict) <= most else f"{verdict[:most]}..."
    if slot == "decision":
        return f"says {verdict}"
    if slot == "add":
        return f"adds it from {shown}"
    return (
        f"gives the weight {shown}" if slot == "weight" else f"gives {slot.removeprefix('replace.')} the value {shown}"
    )


def diff(left: pa.Table, right: pa.Table) -> pa.Table:
    """Compare two merged tables of edits: what `right` adds, removes or changes, as `DIFF_SCHEMA`, sorted.

    `before`, `after`: keep or drop, the weight, or the JSON text of the value. Who made an edit is not compared.
    """
    with scratch(MEMORY, "a comparison of edit lists") as db:
        for name, table in (("before", left), ("after", right)):
            db.register(f"{name}_rows", table)
            db.execute(
                f"CREATE TABLE {name} AS SELECT DISTINCT uid, {SLOT} AS slot, {VERDICT} AS asks FROM {name}_rows"
            )
        rows = db.sql("""
            SELECT uid, slot, CASE WHEN b.asks IS NULL THEN 'added' WHEN a.asks IS NULL THEN 'removed'
                ELSE 'changed' END AS change, b.asks AS before, a.asks AS after
            FROM before b FULL JOIN after a USING (uid, slot) WHERE b.asks IS DISTINCT FROM a.asks ORDER BY ALL""")
        return rows.to_arrow_table().cast(DIFF_SCHEMA).combine_chunks()


def counts(edits: pa.Table) -> dict[str, int]:
    """Return how many edits there are for each verb; those of `replace` also for each field (`replace.<field>`)."""
    with scratch(MEMORY, "counts of edits") as db:
        db.register("edits", edits)
        slot = f"CASE WHEN verb = 'replace' THEN {SLOT} ELSE verb END"
        return dict(db.execute(f"SELECT {slot} AS kind, count(*) FROM edits GROUP BY kind ORDER BY kind").fetchall())


def edits_of(name: str, found: UidList) -> pa.Table:
    """Return a recipe's list `keep`, `drop` or `weights` as edits: these lists are short forms of an edit list."""
    uids = found.uids.unique()
    columns = {field.name: pa.nulls(len(uids), field.type) for field in EDIT_SCHEMA}
    verb = "weight" if name == "weights" else name
    columns |= {"uid": uids, "verb": pa.repeat(pa.scalar(verb, pa.string()), len(uids))}
    if found.weights is not None:
        columns["value"] = found.weights.cast(pa.string())  # uids of such a list are not repeated
    return pa.table(columns, schema=EDIT_SCHEMA)


@contextmanager
def _every(lists: Sequence[Named]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the view `every`: the rows of all lists with their list's place, slot and verdict."""
    tables = [
        table.select(EDIT_SCHEMA.names)
        .cast(EDIT_SCHEMA)
        .append_column("place", pa.repeat(pa.scalar(n, pa.int32()), len(table)))
        for n, (_, table) in enumerate(lists)
    ]
    empty = pa.table(
        {**{name: pa.array([], pa.string()) for name in EDIT_SCHEMA.names}, "place": pa.array([], pa.int32())}
    )
    with scratch(MEMORY, "a merge of edit lists") as db:
        db.register("incoming", pa.concat_tables([empty, *tables]))
        db.execute(f"CREATE VIEW every AS SELECT *, {SLOT} AS slot, {VERDICT} AS asks FROM incoming")
        yield db


def _contradictions(db: duckdb.DuckDBPyConnection, lists: Sequence[Named], most: int | None) -> pa.Table:
    names = pa.table(
        {"place": pa.array(range(len(lists)), pa.int32()), "name": pa.array([n for n, _ in lists], pa.string())}
    )
    db.register("names", names)
    limit = "" if most is None else f"LIMIT {most}"
    rows = db.sql(f"""
        WITH differing AS (
            SELECT uid, slot, min(asks) AS low, max(asks) AS high,
                   arg_min(place, (asks, place)) AS low_place, arg_max(place, (asks, -place)) AS high_place
            FROM every GROUP BY uid, slot HAVING min(asks) <> max(asks)
        )
        SELECT uid, slot, l.name AS "left", CASE WHEN low_place <= high_place THEN low ELSE high END AS left_asks,
               r.name AS "right", CASE WHEN low_place <= high_place THEN high ELSE low END AS right_asks
        FROM differing JOIN names l ON l.place = least(low_place, high_place)
        JOIN names r ON r.place = greatest(low_place, high_place) ORDER BY uid, slot {limit}""")
    return rows.to_arrow_table().cast(CONTRADICTION_SCHEMA).combine_chunks()
