"""Listings and contexts of plans for the tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def batches(n: int, size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, n, size):
        rows = range(start, min(n, start + size))
        yield pa.record_batch(
            {
                "key": [f"{i:07d}.tar" for i in rows],
                "size": pa.array(list(rows), pa.int64()),
                "etag": ["e"] * len(rows),
            }
        )


def context(root: str) -> dict[str, object]:
    return {"corpus": {"root": root, "patterns": [""], "snapshot": None}, "fingerprints": {"index": "f"}}
