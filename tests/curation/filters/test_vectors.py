"""Vectors of the decision engine: blobs of halves become matrices and stay what they were."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.filters import vectors
from curation.filters.vectors import expect_vectors, halves, matrix, stream


def blobs(values: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> pa.Array:
    return pa.array([row.tobytes() for row in values], pa.binary())


def test_halves_come_back_and_rows_of_the_matrix_have_length_one() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float16)
    assert np.array_equal(halves(blobs(values)).numpy(), values)
    found = matrix(blobs(values)).double()
    wide = torch.from_numpy(values.astype(np.float64))
    torch.testing.assert_close(found, wide / wide.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)


def test_no_vectors_are_an_empty_matrix() -> None:
    assert matrix(pa.array([], pa.binary())).shape == (0, 0)


def test_rows_are_streamed_while_the_connection_inserts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "ROWS", 100)
    with duckdb.connect() as db:
        db.execute("CREATE TABLE alive AS SELECT i AS id FROM range(5000) r(i)")
        db.execute("CREATE TABLE copy (id BIGINT)")
        sizes = []
        for batch in stream(db, "FROM alive ORDER BY id"):
            sizes.append(len(batch))
            db.register("batch", pa.table(batch))
            db.execute("INSERT INTO copy FROM batch")
            db.unregister("batch")
        assert db.execute("SELECT count(*), sum(id) FROM copy").fetchone() == (5000, 5000 * 4999 // 2)
    assert sum(sizes) == 5000 and len(sizes) > 1


def test_a_column_of_another_kind_is_refused_without_rows_too() -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE alive (vector BLOB, score FLOAT)")
        expect_vectors(db, "vector")
        with pytest.raises(duckdb.BinderException):
            expect_vectors(db, "score")
