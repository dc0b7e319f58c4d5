"""Tables of DuckDB for what a driver must not hold whole, and rows into them, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

ROWS = 100_000  # in memory at once


@contextmanager
def scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database on local disk for sets that may be larger than memory, of which it takes 1 GB; it is gone afterwards,
    with what it spilled beside itself."""
    import duckdb

    config = {"memory_limit": "1GB"}
    with TemporaryDirectory(prefix="tutelage-") as at, duckdb.connect(f"{at}/scratch.db", config=config) as db:
        yield db


def insert(db: duckdb.DuckDBPyConnection, into: str, table: pa.Table | pa.RecordBatch) -> None:
    """Append rows to a table, whose columns are in the same order."""
    db.register("incoming", table)
    db.execute(f"INSERT INTO {into} SELECT * FROM incoming")
    db.unregister("incoming")


def insert_rows(db: duckdb.DuckDBPyConnection, into: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Append tuples to a table, whose columns are in the same order; of any number of them, `ROWS` are in memory."""
    left = iter(rows)
    while some := list(islice(left, ROWS)):
        columns = [pa.array(values) for values in zip(*some, strict=True)]
        insert(db, into, pa.table(columns, names=[str(place) for place in range(len(columns))]))
