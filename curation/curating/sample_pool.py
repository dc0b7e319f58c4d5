"""The samples that filters decide on: columns of score tables in a DuckDB file on local disk.

A sample costs about 60 bytes of local disk plus its filters' columns. Memory is bounded by `memory`, whatever the size
of the corpus. Loading costs 3 us a sample; a file that another engine left (`keep`) is opened in its place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa

from curation.core.errors import ConservationError, RecipeError
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage import tables
from curation.storage.tables import quote as _quote

_SQL_TYPES = {pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float32(): "FLOAT"}


class SamplePool:
    """The table `pool`: id, unit, row, uid, bad (why a sample is quarantined), then the columns that filters read.

    Use as a context manager; the files are deleted on exit.
    """

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
        """Open an empty pool, or the file of another one.

        index, scores, vectors: the columns that will be loaded, scores with their types. made: small numbers to store
        beside them (UTINYINT): name -> the SQL that computes them from columns of the index. memory: DuckDB's limit.
        kept: a file with these columns that another pool left (`keep`); then nothing has to be loaded.
        """
        self.index, self.scores, self.vectors = list(index), dict(scores), list(vectors)
        self.made = dict(made or {})
        self.path, self.memory = spool / "decisions.duckdb", memory
        self.rows = self.checked = 0
        # What is loaded lies in a file of its own: filters' tables don't belong to it.
        self._loaded, self._is_own = kept or spool / "loaded.duckdb", kept is None
        with tables.local_disk("opening the decision engine", spool):
            self.db = tables.connect(self.path, spill=spool, memory=memory, files=[self._loaded])
            self._prepare()

    def _prepare(self) -> None:
        """Make the tables of this engine, while a full disk is still one clear error."""
        if self._is_own:
            self._make_pool()
        else:
            self._take_over()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        """Close and delete the files. A full disk, which any query may meet, is raised as `LocalDiskError`."""
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
        """Return the bytes that the loaded columns take on local disk."""
        self.db.execute("CHECKPOINT loaded")
        return self._loaded.stat().st_size

    def keep(self, path: Path) -> None:
        """Copy the loaded columns to `path`, for other pools: whole or not at all. Raises `OSError`."""
        self.check_uids()
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
        """Insert units in plan order, in batches: (ordinal, table of row, uid, reason, and this pool's columns)."""
        for batch in _batched(self._numbered(units)):
            try:
                self._insert(batch)
            except duckdb.OutOfMemoryException as error:
                self.raise_if_full("loading the scores", error)
                raise too_little("loading the scores", self.memory, error) from None

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
            bad.append(f"CASE WHEN {no_value(name, kind)} THEN 'score_not_finite' END")
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
        """Fill the table `name` with the kept samples of other snapshots: snapshot, own, uid, content_hash, columns.

        snapshots: for each, whether it is an earlier one of the same dataset (own), its manifest (uid, decision) and
        its samples' tables (uid, content_hash, columns). The column `snapshot` is its place in this sequence.
        """
        kinds = {column: "BLOB" if column in self.vectors else _SQL_TYPES[self.scores[column]] for column in columns}
        typed = "".join(f", {_quote(column)} {kind}" for column, kind in kinds.items())
        fixed = "snapshot INTEGER, own BOOLEAN, uid VARCHAR, content_hash VARCHAR"
        self.db.execute(f"CREATE OR REPLACE TABLE {name} ({fixed}{typed})")
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

    def raise_if_full(self, what: str, error: duckdb.Error) -> None:
        if full := tables.disk_error(error, what, self.path.parent):
            raise full from None

    def check_uids(self) -> None:
        """Raise `ConservationError` if a uid occurs twice. Runs once for the loaded samples."""
        if self.checked == self.rows:
            return
        repeated = self.db.execute("SELECT uid FROM pool GROUP BY uid HAVING count(*) > 1 LIMIT 1").fetchall()
        if repeated:
            raise ConservationError(f"uid {repeated[0][0]} occurs twice in the corpus: a shard is listed twice")
        self.checked = self.rows


def no_value(name: str, kind: pa.DataType) -> str:
    """Return an SQL condition: the score is missing or not finite."""
    finite = f" OR NOT isfinite({_quote(name)})" if pa.types.is_floating(kind) else ""
    return f"({_quote(name)} IS NULL{finite})"


def _batched(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables until they have 100,000 rows or are 1,000."""
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


def too_little(what: str, memory: str, error: duckdb.Error) -> RecipeError:
    text = f"{what} needs more memory than compute.memory, {memory}: {str(error).splitlines()[0]}"
    return RecipeError(text, fix="give it more, such as --set compute.memory=8GB")
