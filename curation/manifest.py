"""The manifest: one Parquet row a sample, kept or not, and the reason; and the algebra over two of them.

A manifest comes in parts, one a write unit, in source order. `weight` is 1 for a kept sample, or what the recipe's list
of weights and its filters that weigh say (see `decisions`), and 0 otherwise.
`output_shard` (relative to the dataset's root) and `output_offset` say where a kept sample's first header stands. A
shard's bytes are a pure function of the decisions; its name holds a random part as well (so that `curate gc` races no
put), so `output_shard`, and with it the Parquet bytes, differ between two independent runs. Compare shards by sha256.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curation.errors import LedgerError, TutelageError
from curation.tables import scratch
from curation.unreadable import read_list

if TYPE_CHECKING:
    import duckdb

    from curation.snapshot import Snapshot

BASE_FIELDS = [
    ("uid", pa.string()),
    ("key", pa.string()),
    ("decision", pa.string()),
    ("reason", pa.string()),
    ("weight", pa.float32()),
    ("source_key", pa.string()),
    ("source_etag", pa.string()),
    ("source_offset", pa.int64()),
    ("source_length", pa.int64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("content_hash", pa.string()),
    ("output_shard", pa.string()),
    ("output_offset", pa.int64()),
    ("detail", pa.string()),  # of the reason, where the sample itself is at fault: "70000 x 3 pixels, more than ..."
]
LATER = {"detail": pa.string()}  # columns that manifests of earlier versions lack: read as null

_UID = r"\A[0-9a-f]{32}\z"

TYPES = {str(kind): kind for kind in (pa.float32(), pa.int32(), pa.int64(), pa.string())}  # that a score may have


def schema(scores: Mapping[str, pa.DataType]) -> pa.Schema:
    """The manifest's columns: after those that every sample has, the scores that are no vectors, by name."""
    return pa.schema([*BASE_FIELDS, *scores.items()])


def check_uids(table: pa.Table | pa.RecordBatch, where: str, names: Sequence[str] = ("uid",)) -> None:
    """Raise `LedgerError` for what is no uid: what others wrote goes into queries and pages. 0.07 us a value."""
    for name in names:
        column = table.column(name)
        right = pc.fill_null(pc.match_substring_regex(column, _UID), False)
        if not pc.all(right, min_count=0).as_py():
            wrong = column.filter(pc.invert(right))[0].as_py()
            fix = "put the right object back, or do not use this dataset: curate verify says what else differs"
            raise LedgerError(f"{where}: {str(wrong)[:40]!r} in column {name} is not a uid (32 hexadecimal)", fix=fix)


class Streams:
    """Readers for DuckDB, which makes every error of theirs one of its own: within `with`, ours is what is raised."""

    def __init__(self) -> None:
        self._failed: TutelageError | None = None

    def of(self, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(reader.schema, self._noted(reader))

    def _noted(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except TutelageError as error:
            self._failed = error
            raise

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and self._failed is not None:
            raise self._failed from None


def diff(left: Snapshot, right: Snapshot) -> dict[str, Any]:
    """What changed from `left` to `right`: samples by uid, input shards by key and etag, and the recipe's lines.

    Hash joins of a few columns in DuckDB, out of core; only counts, and the keys of shards that differ, reach Python.
    """
    with scratch("2GB", "comparing two snapshots") as db, Streams() as streams:
        for name, snapshot in (("a", left), ("b", right)):
            reader = snapshot.reader(["uid", "decision", "reason", "source_key", "source_etag"])
            db.register(f"{name}_rows", streams.of(reader))
            db.execute(f"CREATE TABLE {name} AS SELECT * REPLACE (coalesce(reason, '') AS reason) FROM {name}_rows")
            db.unregister(f"{name}_rows")
        rows = db.execute(
            """SELECT coalesce(a.decision, 'absent'), coalesce(b.decision, 'absent'),
                      coalesce(a.reason, ''), coalesce(b.reason, ''), count(*)
               FROM a FULL JOIN b USING (uid) GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        shards = _without_set_aside(_shards(db), left, right)
    changed = [row for row in rows if row[0] != row[1] or row[2] != row[3]]
    return {
        "from": left.number,
        "to": right.number,
        "kept_in_both": sum(r[4] for r in rows if r[0] == r[1] == "kept"),
        "entered": sum(r[4] for r in changed if r[0] != "kept" and r[1] == "kept"),
        "left": sum(r[4] for r in changed if r[0] == "kept" and r[1] != "kept"),
        "changes": [{"was": _state(r[0], r[2]), "is": _state(r[1], r[3]), "samples": r[4]} for r in changed],
        "shards": shards,
        "recipe": _lines(left.document["recipe"], right.document["recipe"]),
    }


def _shards(db: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Keys of input shards added, changed (another etag) and removed. Shards without a single sample don't show."""
    rows = db.execute(
        """SELECT CASE WHEN a.key IS NULL THEN 'added' WHEN b.key IS NULL THEN 'removed' ELSE 'changed' END, key
           FROM (SELECT DISTINCT source_key AS key, source_etag AS etag FROM a) a
           FULL JOIN (SELECT DISTINCT source_key AS key, source_etag AS etag FROM b) b USING (key)
           WHERE a.etag IS DISTINCT FROM b.etag ORDER BY ALL"""
    ).fetchall()
    return {name: [key for what, key in rows if what == name] for name in ("added", "changed", "removed")}


def _without_set_aside(shards: Mapping[str, Sequence[str]], left: Snapshot, right: Snapshot) -> dict[str, list[str]]:
    """The same, where shards that one snapshot was made without, since the store refused them, are neither removed nor
    added: `unreadable` ones, and those that are `readable` again."""
    before, after = (
        {shard.key for shard in read_list(one.store, one.document.unreadable)} for one in (left, right)
    )  # fmt: skip
    lost, back = (
        [key for key in shards[name] if key in known] for name, known in (("removed", after), ("added", before))
    )
    rest = {name: [key for key in keys if key not in {*lost, *back}] for name, keys in shards.items()}
    return {**rest, "unreadable": lost, "readable": back}


def _lines(left: Any, right: Any) -> list[str]:
    """The changed lines of two recipes, `-` before and `+` after."""
    before, after = (yaml.safe_dump(value, sort_keys=False).splitlines() for value in (left, right))
    return [line for line in unified_diff(before, after, lineterm="", n=0) if not line.startswith(("---", "+++", "@@"))]


def _state(decision: str, reason: str) -> str:
    return f"{decision}({reason})" if reason else decision
