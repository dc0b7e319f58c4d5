"""Manifests of others: uids are checked, and errors of a stream reach the caller as they were raised."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from curation.core.errors import LedgerError
from curation.dataset.manifest import Streams, check_uids

UID = "0123456789abcdef" * 2


@pytest.mark.parametrize("wrong", [UID[:-1], UID.upper(), UID + "\n", f"{UID}'; DROP TABLE pool", "", None])
def test_what_is_no_uid_is_refused(wrong: str | None) -> None:
    check_uids(pa.table({"uid": [UID, UID]}), "the manifest")
    check_uids(pa.table({"uid": pa.array([], pa.string())}), "the manifest")
    with pytest.raises(LedgerError, match=r"the manifest: .* in column stays is not a uid"):
        check_uids(pa.table({"uid": [UID, UID], "stays": [UID, wrong]}), "the manifest", ("uid", "stays"))


def test_duckdb_raises_our_error() -> None:
    """It wraps what a reader raises, and with it the code, the fix and the exit code."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"n": [1, 2]})
        raise LedgerError("part 2 is gone", fix="put it back")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())
    with pytest.raises(LedgerError, match="part 2 is gone") as caught, duckdb.connect() as db, Streams() as streams:
        db.register("rows", streams.of(reader))
        db.execute("SELECT sum(n) FROM rows").fetchall()
    assert caught.value.fix == "put it back"


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), Streams():
        raise ZeroDivisionError
