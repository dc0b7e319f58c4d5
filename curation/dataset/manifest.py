"""The manifest: one Parquet row a sample, kept or not, and the reason.

A manifest comes in parts, one a write unit, in source order. `weight` is 1 for a kept sample, or what the recipe's list
of weights and its filters that weigh say (see `decisions`), and 0 otherwise.
`output_shard` (relative to the dataset's root) and `output_offset` say where a kept sample's first header stands. A
shard's bytes are a pure function of the decisions; its name holds a random part as well (so that `curate gc` races no
put), so `output_shard`, and with it the Parquet bytes, differ between two independent runs. Compare shards by sha256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, TutelageError

_UID = r"\A[0-9a-f]{32}\z"


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
