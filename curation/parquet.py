"""Tables as deterministic Parquet bytes, and back: every table that the service keeps goes through here."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def to_parquet(table: pa.Table) -> bytes:
    """zstd, statistics on, and no writer-dependent metadata but Arrow's own version: equal tables, equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd", store_schema=False)
    return bytes(sink.getvalue())


def from_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or the named columns of it in their order.

    Not by `pq.read_table`: its asynchronous scanner can outlive the call on a thread of its own, and a process that
    ends meanwhile is aborted after its work is done (1 of 6 small processes, pyarrow 26). Whoever reads many tables
    reads them on threads of their own.
    """
    table = pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)
    return table if columns is None else table.select(columns)
