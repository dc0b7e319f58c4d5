"""Conversion of the decision engine's vectors, which are blobs of float16, to matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    from torch import Tensor

ROWS = 1 << 16  # rows in a batch
MAX_THRESHOLD = 1 - 1e-6  # highest threshold in effect: the cosine of a vector and itself may be below 1


def matrix(blobs: pa.Array) -> Tensor:
    """Convert N blobs of D float16 to unit vectors, float32 [N, D]."""
    from torch.nn.functional import normalize

    return normalize(halves(blobs).float(), dim=-1)


def halves(blobs: pa.Array) -> Tensor:
    """Convert N blobs of D float16 to float16 [N, D]."""
    import torch

    if not len(blobs):
        return torch.zeros(0, 0, dtype=torch.float16)
    return torch.frombuffer(bytearray(b"".join(blobs.to_pylist())), dtype=torch.float16).view(len(blobs), -1)


def expect_vectors(db: duckdb.DuckDBPyConnection, column: str) -> None:
    """Raise duckdb's `BinderException` for a column that is not a blob, even without rows."""
    db.execute(f'SELECT octet_length("{column}") FROM alive LIMIT 0')


def stream(db: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """Yield a query's rows in batches through a second cursor, so that `db` can insert meanwhile."""
    return iter(db.cursor().sql(query).to_arrow_reader(ROWS))
