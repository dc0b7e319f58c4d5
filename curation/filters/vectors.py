"""Vectors of the decision engine, which has them as blobs of halves, in and out of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    from torch import Tensor

ROWS = 1 << 16  # read at once
ALIKE = 1 - 1e-6  # the cosine of a vector and itself may be less than 1


def matrix(blobs: pa.Array) -> Tensor:
    """float32 [N, D] of unit length, from N blobs of D halves."""
    from torch.nn.functional import normalize

    return normalize(halves(blobs).float(), dim=-1)


def halves(blobs: pa.Array) -> Tensor:
    """float16 [N, D], from N blobs of D halves."""
    import torch

    if not len(blobs):
        return torch.zeros(0, 0, dtype=torch.float16)
    return torch.frombuffer(bytearray(b"".join(blobs.to_pylist())), dtype=torch.float16).view(len(blobs), -1)


def expect_vectors(db: duckdb.DuckDBPyConnection, column: str) -> None:
    """Raises duckdb's `BinderException` for a column of another kind, also where there are no rows."""
    db.execute(f'SELECT octet_length("{column}") FROM alive LIMIT 0')


def stream(db: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """A query's rows in batches, through a connection of their own: the first one goes on to insert."""
    return iter(db.cursor().sql(query).to_arrow_reader(ROWS))
