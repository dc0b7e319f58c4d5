"""The manifest: one Parquet row a sample, kept or not, with the reason.

A manifest has one part for each write unit, in source order. `weight` of a kept sample is 1, or the product of the
recipe's list of weights and its weighting filters (see `decisions`); of any other sample it is 0. `output_shard`
(relative to the dataset's root) and `output_offset` give the position of a kept sample's first tar header.

A shard's bytes are a pure function of the decisions, but its name has a random part, so that `curate gc` can't race a
put. Therefore `output_shard`, and with it the Parquet bytes, differ between two independent runs: compare shards by
sha256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, TutelageError

_UID = r"\A[0-9a-f]{32}\z"


def check_uids(table: pa.Table | pa.RecordBatch, where: str, names: Sequence[str] = ("uid",)) -> None:
    """Raise `LedgerError` for a value that is not a uid: stored values are used in queries and pages.

    `where`: the name of the table in the error; `names`: the columns to check. Cost: 0.07 us a value.
    """
    for name in names:
        column = table.column(name)
        right = pc.fill_null(pc.match_substring_regex(column, _UID), False)
        if not pc.all(right, min_count=0).as_py():
            wrong = column.filter(pc.invert(right))[0].as_py()
            fix = "restore the original object, or don't use this dataset; `curate verify` lists all differences"
            text = f"{where}: {str(wrong)[:40]!r} in column {name} is not a uid (32 hexadecimal digits)"
            raise LedgerError(text, fix=fix)


class Streams:
    """Arrow readers for DuckDB that preserve our errors.

    DuckDB wraps an error of a reader in one of its own; a `with` block of this class raises the original error instead.
    """

    def __init__(self) -> None:
        self._failed: TutelageError | None = None

    def of(self, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """Wrap a reader; register the result with DuckDB."""
        return pa.RecordBatchReader.from_batches(reader.schema, self._remember_error(reader))

    def _remember_error(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
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
