"""Samples that other snapshots keep too, such as evaluation sets or earlier datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator

from curation.core.hashes import BLANK
from curation.core.origins import TRUSTED, expect_origins
from curation.filters.filter import table_by, table_of
from curation.filters.hamming import MOST_DISTANCE, are_near, pairs_between
from curation.filters.vectors import MAX_THRESHOLD, expect_vectors, halves, matrix, stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

COLUMNS = 1 << 11  # compared vectors in one matrix product
HELD = 1 << 29  # bytes of compared vectors in memory; all samples' vectors are read once for each such part
# A sample of an earlier snapshot of the dataset is no duplicate of itself.
_ANOTHER = "NOT (o.own AND o.uid = alive.uid)"
_BEST = "min({'bits': o.bits, 'uid': o.uid, 'snapshot': o.snapshot}) AS best"  # compared in this order of fields


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop the samples that also occur in a snapshot of `against`: an evaluation set, or an earlier dataset.

    A sample matches in one of three ways, and the first that holds is the reason. `exact`: equal image bytes.
    `perceptual`: hashes of the scorer `phash` named by `hash` that differ in at most `distance` bits (fewer for
    symmetric drawings, see `near_duplicates`); a blank image, which has the hash 0, never matches. `embedding`: a
    cosine of at least `threshold` between embeddings of the scorer named by `embedding`. The last two apply only where
    `hash` or `embedding` is given.

    To make an evaluation set a snapshot, use `curate run` with the same scorers. `s3://eval/val@3` pins a snapshot;
    without `@3`, the run takes the latest one at its start and records its number. A sample that both snapshots read
    from the same shard matches too, except against an earlier snapshot of the dataset that the recipe writes. `curate
    matches` lists the matching pairs. Of a snapshot, only samples whose origin is one of `origins` are compared, real
    and relabelled ones unless the recipe names others; a line reports how many are left out.
    Cost: exact, 0.2 us of CPU a sample. Perceptual, 0.4 us a sample against an evaluation set, and 1 us a sample of
    both sides where both have 10 million (all near pairs of both sides together are found, as in `near_duplicates`).
    Embedding, N M D multiply-adds for N samples and M compared samples of width D, with 512 MB of compared vectors and
    as much of cosines in memory: suitable for evaluation sets, and expensive for large earlier datasets.
    Source: deduplication against evaluation sets as in DataComp (2304.14108), appendix F.
    Example: decontaminate: {against: [s3://eval/val@3], hash: phash, embedding: embedding, threshold: 0.95}
    """

    code: ClassVar[int] = 3
    added: ClassVar[tuple[str, ...]] = ("origins",)

    against: Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
    hash: str | None = None
    distance: int = 4
    embedding: str | None = None
    threshold: float = 0.95
    origins: tuple[str, ...] = TRUSTED

    def __post_init__(self) -> None:
        if not self.against:
            raise ValueError("against is empty; name at least one snapshot")
        expect_origins(self.origins, "origins")
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise ValueError(f"distance is {self.distance}, but must be from 0 to {MOST_DISTANCE} of 64 bits")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, but must be a cosine above 0 and up to 1")

    def columns(self) -> Sequence[str]:
        return ("content_hash", *self.compared_columns())

    def compared_columns(self) -> Sequence[str]:
        """Score columns that the compared snapshots must have with the same fingerprints."""
        return tuple(name for name in (self.hash, self.embedding) if name)

    def compared_table(self) -> str:
        """Name of the table of compared samples, which the engine fills. It does not depend on the thresholds.

        Its columns: snapshot (an index into `against`), own (whether it is an earlier snapshot of this dataset), uid,
        content_hash, and those of `compared_columns`.
        """
        return table_by((self.against, self.compared_columns(), self.origins), "others")

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of matches `id, how, snapshot, other, value`: the best match of each sample in each way."""
        table = self._table
        if self.embedding:
            expect_vectors(db, self.embedding)
        columns = "id BIGINT, how VARCHAR, snapshot INTEGER, other VARCHAR, value DOUBLE"
        db.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({columns})")
        self._exact(db)
        if self.hash:
            self._perceptual(db)
        if self.embedding:
            self._similar(db)

    def matches(self) -> str:
        """SQL of `id, how, snapshot, other, value`; `value` is the number of differing bits, or a cosine."""
        return f"SELECT id, how, snapshot, other, value FROM {self._table}"

    def drops(self) -> str:
        order = "CASE how WHEN 'exact' THEN 0 WHEN 'perceptual' THEN 1 ELSE 2 END"
        return f"SELECT id, arg_min(how, {order}) AS detail FROM {self._table} GROUP BY id"

    @property
    def _table(self) -> str:
        return table_of(self, "matches")

    def _exact(self, db: duckdb.DuckDBPyConnection) -> None:
        shared, bits = f"{self._table}_shared", "hash(content_hash)"  # 64 bits first: few samples have theirs compared
        ours, theirs = (
            f"SELECT {bits} AS h FROM {rows} WHERE content_hash IS NOT NULL"
            for rows in ("alive", self.compared_table())
        )
        db.execute(f"CREATE OR REPLACE TEMP TABLE {shared} (h UBIGINT)")
        for same, _ in pairs_between(db, ours, theirs, 0):
            insert(db, shared, pa.table({"h": same}))
        few = f"""
            SELECT content_hash AS key, own, uid, 0 AS bits, snapshot
            FROM {self.compared_table()} SEMI JOIN {shared} ON {bits} = {shared}.h"""
        db.execute(f"""
            INSERT INTO {self._table} SELECT id, 'exact', best.snapshot, best.uid, 1 FROM (
                SELECT alive.id, {_BEST}
                FROM (FROM alive SEMI JOIN {shared} ON {bits} = {shared}.h) alive JOIN ({_few(few)}) o
                ON alive.content_hash = o.key WHERE {_ANOTHER} GROUP BY alive.id)""")
        db.execute(f"DROP TABLE {shared}")

    def _perceptual(self, db: duckdb.DuckDBPyConnection) -> None:
        near = f"{self._table}_near"
        ours, theirs = (
            f'SELECT "{self.hash}" AS h FROM {rows} WHERE h <> {BLANK}' for rows in ("alive", self.compared_table())
        )
        db.execute(f"CREATE OR REPLACE TEMP TABLE {near} (a BIGINT, b BIGINT, bits INTEGER)")
        for a, b in pairs_between(db, ours, theirs, self.distance):
            is_near = are_near(a, b, self.distance)
            a, b = a[is_near], b[is_near]
            bits = np.bitwise_count(a ^ b).astype(np.int32)
            insert(db, near, pa.table({"a": a.view(np.int64), "b": b.view(np.int64), "bits": bits}))
        same = f'SELECT "{self.hash}" AS key, own, uid, 0 AS bits, snapshot FROM {self.compared_table()}'
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
            FROM {self.compared_table()} WHERE "{self.embedding}" IS NOT NULL
            GROUP BY uid""")  # one row for a sample that two snapshots keep
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
        """Compare all samples with a part of the compared samples; insert the most similar one above the threshold."""
        stored = [halves(part.column("vector")) for part in others.to_batches(max_chunksize=COLUMNS)]
        parts = [(part, part.float().norm(dim=1).clamp_min(1e-12)) for part in stored]
        uids, snapshots = (others.column(name).combine_chunks() for name in ("uid", "snapshot"))
        itself_too = np.append(~others.column("own").to_numpy(), True)  # last: place -1, not among the compared ones
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
            rows = np.flatnonzero(best >= min(self.threshold, MAX_THRESHOLD))
            place = pa.array(at[rows])
            columns = [batch.column(0).take(pa.array(rows)), snapshots.take(place), uids.take(place)]
            columns.append(pa.array(best[rows].astype(np.float64)))
            insert(db, into, pa.table(columns, names=["id", "snapshot", "other", "value"]))


def _few(rows: str) -> str:
    """SQL of the best candidates for each key, `key, own, uid, bits, snapshot`, from compared samples `rows`.

    Of the samples that are not own, the nearest (ties: smaller uid); of own ones the nearest two, since one may be the
    sample itself. The best match of any sample with this key is among them, so that many copies on both sides don't
    multiply in a join.
    """
    each = f"""
        SELECT key, own, uid, min({{'bits': bits, 'snapshot': snapshot}}) AS best
        FROM ({rows}) GROUP BY key, own, uid"""
    place = "row_number() OVER (PARTITION BY key, own ORDER BY bits, uid)"
    return f"""
        SELECT key, own, uid, best.bits AS bits, best.snapshot AS snapshot FROM ({each})
        QUALIFY {place} <= CASE WHEN own THEN 2 ELSE 1 END"""


def _places(uids: pa.Array, among: pa.Array) -> np.ndarray[Any, Any]:
    """Index of each uid in `among`, int64 [N]; -1 where it is absent."""
    found = pc.fill_null(pc.index_in(uids, among), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)
