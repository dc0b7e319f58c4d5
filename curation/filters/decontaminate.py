"""Samples that occur in other snapshots: in evaluation sets, or in what was curated before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator

from curation.core.hashes import BLANK
from curation.filters.filter import table_by, table_of
from curation.filters.hamming import MOST_DISTANCE, alike, between
from curation.filters.vectors import ALIKE, expect_vectors, halves, matrix, stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

COLUMNS = 1 << 11  # vectors of the others that a block is compared with at once
HELD = 1 << 29  # bytes of the others' vectors in memory; for each so many, all samples' vectors are read once
_ANOTHER = "NOT (o.own AND o.uid = alive.uid)"  # no sample of an earlier snapshot of the dataset is its own duplicate
_BEST = "min({'bits': o.bits, 'uid': o.uid, 'snapshot': o.snapshot}) AS best"  # the least as they are ordered here


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop the samples that a snapshot in `against` keeps too: an evaluation set, or all that was curated before.

    Three ways to be the same, each a reason of its own (the first that holds): `exact`, equal image bytes;
    `perceptual`, hashes of a scorer `phash` (named by `hash`) that differ in at most `distance` bits, and are none of a
    blank picture, which has the hash 0 (in fewer bits for symmetric drawings, as `near_duplicates`); `embedding`,
    a cosine of at least `threshold` between embeddings (named by `embedding`). The last two are looked for where they
    are named. An evaluation set becomes a snapshot by `curate run` with the same scorers; `s3://eval/val@3` pins one,
    without `@3` it is the latest when the run begins, and is written down in what the run makes. A sample that both
    snapshots take from the same place counts too; only against an earlier snapshot of the very dataset that the recipe
    writes is a sample no duplicate of itself. `curate matches` shows what matched what.
    Cost: exact, 64 bits a sample, of which the shared ones are looked for, then a join of few: 0.2 us of CPU a sample;
    perceptual, all near pairs of both sides together, as in `near_duplicates`: 0.4 us a sample against an evaluation
    set, and 1 us of each side's where both have 10 million; for embeddings N M D multiply-adds with the M others, of
    which 512 MB are in memory at a time, and as much of cosines: for evaluation sets, and for what was curated before
    as far as that can be paid.
    Source: deduplication against evaluation sets as in DataComp (2304.14108), appendix F.
    Example: decontaminate: {against: [s3://eval/val@3], hash: phash, embedding: embedding, threshold: 0.95}
    """

    code: ClassVar[int] = 3

    against: Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
    hash: str | None = None
    distance: int = 4
    embedding: str | None = None
    threshold: float = 0.95

    def __post_init__(self) -> None:
        if not self.against:
            raise ValueError("against is empty: name at least one snapshot")
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise ValueError(f"distance is from 0 to {MOST_DISTANCE} of 64 bits")
        if not 0 < self.threshold <= 1:
            raise ValueError("threshold is a cosine above 0 and up to 1")

    def columns(self) -> Sequence[str]:
        return ("content_hash", *self.compared())

    def compared(self) -> Sequence[str]:
        """The score columns that the others must have too, made in the same way."""
        return tuple(name for name in (self.hash, self.embedding) if name)

    def others(self) -> str:
        """The table that the engine fills: snapshot (a place in `against`), own (whether that is an earlier snapshot of
        the dataset), uid, content_hash, and `compared`. Another threshold has the same."""
        return table_by((self.against, self.compared()), "others")

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of matches: `id, how, snapshot, other, value`; of each way, a sample's best one."""
        table = self._table
        if self.embedding:
            expect_vectors(db, self.embedding)
        made = "id BIGINT, how VARCHAR, snapshot INTEGER, other VARCHAR, value DOUBLE"
        db.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({made})")
        self._exact(db)
        if self.hash:
            self._perceptual(db)
        if self.embedding:
            self._similar(db)

    def matches(self) -> str:
        """SQL of `id, how, snapshot, other, value`: bits that differ, or a cosine."""
        return f"SELECT id, how, snapshot, other, value FROM {self._table}"

    def drops(self) -> str:
        order = "CASE how WHEN 'exact' THEN 0 WHEN 'perceptual' THEN 1 ELSE 2 END"
        return f"SELECT id, arg_min(how, {order}) AS detail FROM {self._table} GROUP BY id"

    @property
    def _table(self) -> str:
        return table_of(self, "matches")

    def _exact(self, db: duckdb.DuckDBPyConnection) -> None:
        shared, bits = f"{self._table}_shared", "hash(content_hash)"  # so that only few have their hashes compared
        ours, theirs = (
            f"SELECT {bits} AS h FROM {rows} WHERE content_hash IS NOT NULL" for rows in ("alive", self.others())
        )
        db.execute(f"CREATE OR REPLACE TEMP TABLE {shared} (h UBIGINT)")
        for same, _ in between(db, ours, theirs, 0):
            insert(db, shared, pa.table({"h": same}))
        few = f"""
            SELECT content_hash AS key, own, uid, 0 AS bits, snapshot
            FROM {self.others()} SEMI JOIN {shared} ON {bits} = {shared}.h"""
        db.execute(f"""
            INSERT INTO {self._table} SELECT id, 'exact', best.snapshot, best.uid, 1 FROM (
                SELECT alive.id, {_BEST}
                FROM (FROM alive SEMI JOIN {shared} ON {bits} = {shared}.h) alive JOIN ({_few(few)}) o
                ON alive.content_hash = o.key WHERE {_ANOTHER} GROUP BY alive.id)""")
        db.execute(f"DROP TABLE {shared}")

    def _perceptual(self, db: duckdb.DuckDBPyConnection) -> None:
        near = f"{self._table}_near"
        ours, theirs = (
            f'SELECT "{self.hash}" AS h FROM {rows} WHERE h <> {BLANK}' for rows in ("alive", self.others())
        )
        db.execute(f"CREATE OR REPLACE TEMP TABLE {near} (a BIGINT, b BIGINT, bits INTEGER)")
        for a, b in between(db, ours, theirs, self.distance):
            is_near = alike(a, b, self.distance)
            a, b = a[is_near], b[is_near]
            bits = np.bitwise_count(a ^ b).astype(np.int32)
            insert(db, near, pa.table({"a": a.view(np.int64), "b": b.view(np.int64), "bits": bits}))
        same = f'SELECT "{self.hash}" AS key, own, uid, 0 AS bits, snapshot FROM {self.others()}'
        of_theirs = _few(f"SELECT * FROM ({same}) SEMI JOIN {near} ON key = b")
        matched = f"SELECT a AS key, own, uid, p.bits, snapshot FROM {near} p JOIN ({of_theirs}) o ON p.b = o.key"
        db.execute(f"""
            INSERT INTO {self._table} SELECT id, 'perceptual', best.snapshot, best.uid, best.bits FROM (
                SELECT alive.id, {_BEST} FROM alive JOIN ({_few(matched)}) o ON alive."{self.hash}" = o.key
                WHERE {_ANOTHER} GROUP BY alive.id)""")
        db.execute(f"DROP TABLE {near}")

    def _similar(self, db: duckdb.DuckDBPyConnection) -> None:
        theirs, found = f"{self._table}_theirs", f"{self._table}_found"
        db.execute(f"""
            CREATE OR REPLACE TABLE {theirs} AS
            SELECT row_number() OVER (ORDER BY uid) - 1 AS place, arg_min(snapshot, (own, snapshot)) AS snapshot, uid,
                any_value("{self.embedding}") AS vector, bool_and(own) AS own
            FROM {self.others()} WHERE "{self.embedding}" IS NOT NULL
            GROUP BY uid""")  # a sample that two snapshots keep is one
        db.execute(f"CREATE OR REPLACE TEMP TABLE {found} (id BIGINT, snapshot INTEGER, other VARCHAR, value DOUBLE)")
        ((count, width),) = db.execute(f"SELECT count(*), any_value(octet_length(vector)) FROM {theirs}").fetchall()
        rows = max(1, HELD // (width or 1))
        for start in range(0, count, rows):
            within = (
                f"SELECT snapshot, uid, vector, own FROM {theirs} WHERE place BETWEEN {start} AND {start + rows - 1}"
            )
            self._compare(db, db.sql(f"{within} ORDER BY place").to_arrow_table(), found)
        db.execute(f"""
            INSERT INTO {self._table}
            SELECT id, 'embedding', arg_min(snapshot, (-value, other)), arg_min(other, (-value, other)), max(value)
            FROM {found} GROUP BY id""")
        db.execute(f"DROP TABLE {theirs}; DROP TABLE {found}")

    def _compare(self, db: duckdb.DuckDBPyConnection, others: pa.Table, into: str) -> None:
        """All samples with some of the others: of those that are similar enough, the most similar one of each."""
        stored = [halves(part.column("vector")) for part in others.to_batches(max_chunksize=COLUMNS)]
        parts = [(part, part.float().norm(dim=1).clamp_min(1e-12)) for part in stored]
        uids, snapshots = (others.column(name).combine_chunks() for name in ("uid", "snapshot"))
        itself_too = np.append(~others.column("own").to_numpy(), True)  # the last: of samples that they don't have
        for batch in stream(db, f'SELECT id, uid, "{self.embedding}" FROM alive'):
            vectors = matrix(batch.column(2))
            best, at = np.full(len(vectors), -2.0, np.float32), np.zeros(len(vectors), np.int64)
            places = _places(batch.column(1), uids)
            itself = np.where(itself_too[places], -1, places)
            first = 0
            for part, lengths in parts:
                cosines = (vectors @ part.float().T).div_(lengths)
                own = np.flatnonzero((itself >= first) & (itself < first + len(part)))
                cosines[own, itself[own] - first] = -2.0
                found = cosines.max(1)
                better = found.values.numpy() > best
                best[better], at[better] = found.values.numpy()[better], found.indices.numpy()[better] + first
                first += len(part)
            rows = np.flatnonzero(best >= min(self.threshold, ALIKE))
            place = pa.array(at[rows])
            columns = [batch.column(0).take(pa.array(rows)), snapshots.take(place), uids.take(place)]
            columns.append(pa.array(best[rows].astype(np.float64)))
            insert(db, into, pa.table(columns, names=["id", "snapshot", "other", "value"]))


def _few(rows: str) -> str:
    """SQL of a few of the others, `key, own, uid, bits, snapshot`, for each key: among them is whatever a sample with
    this key matches best, so that many copies here and there are never all brought together.

    That is the nearest one that is not own (ties: smaller uid), and of own ones the nearest two: one may be the sample.
    """
    each = f"""
        SELECT key, own, uid, min({{'bits': bits, 'snapshot': snapshot}}) AS best
        FROM ({rows}) GROUP BY key, own, uid"""
    place = "row_number() OVER (PARTITION BY key, own ORDER BY bits, uid)"
    return f"""
        SELECT key, own, uid, best.bits AS bits, best.snapshot AS snapshot FROM ({each})
        QUALIFY {place} <= CASE WHEN own THEN 2 ELSE 1 END"""


def _places(uids: pa.Array, among: pa.Array) -> np.ndarray[Any, Any]:
    """Where each uid stands in `among`, or -1."""
    found = pc.fill_null(pc.index_in(uids, among), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)
