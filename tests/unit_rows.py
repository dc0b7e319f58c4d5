"""Rows of a unit's index for the tests of score tables."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet

from curation.core.types import ShardRef, uid
from curation.shards.unit_reader import STREAM_SCHEMA


def rows(shard: ShardRef, n: int, reason: str | None = None) -> pa.Table:
    """The stream of a unit: n rows and the end row."""
    items = [
        {"shard_key": shard.key, "shard_size": shard.size, "shard_etag": shard.etag, "end": i == n, "row": i,
         "offset": 512 * i, "uid": uid(shard.key, shard.etag, 512 * i), "reason": reason if i == n else None}
        for i in range(n + 1)
    ]  # fmt: skip
    return pa.Table.from_pylist(items, STREAM_SCHEMA)
