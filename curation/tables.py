"""Rows into DuckDB's tables, some at a time: what a driver must not hold whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

ROWS = 100_000  # inserted at once


@contextmanager
def scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database on local disk for sets that may be larger than memory; it is gone afterwards."""
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
    """The same of any number of tuples."""
    left = iter(rows)
    while some := list(islice(left, ROWS)):
        columns = [pa.array(values) for values in zip(*some, strict=True)]
        insert(db, into, pa.table(columns, names=[str(place) for place in range(len(columns))]))
