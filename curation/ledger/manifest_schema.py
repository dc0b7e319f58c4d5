"""The columns of a manifest: those that every sample has, then the scores that are not vectors, by name."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

BASE_FIELDS = [
    ("uid", pa.string()),
    ("key", pa.string()),
    ("decision", pa.string()),
    ("reason", pa.string()),
    ("weight", pa.float32()),
    ("source_key", pa.string()),
    ("source_etag", pa.string()),
    ("source_offset", pa.int64()),
    ("source_length", pa.int64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("content_hash", pa.string()),
    ("output_shard", pa.string()),
    ("output_offset", pa.int64()),
    ("detail", pa.string()),  # of the reason, where the sample itself is at fault: "70000 x 3 pixels, more than ..."
]


LATER = {"detail": pa.string()}  # columns that manifests of earlier versions lack: read as null


def schema(scores: Mapping[str, pa.DataType]) -> pa.Schema:
    """The manifest's columns: after those that every sample has, the scores that are no vectors, by name."""
    return pa.schema([*BASE_FIELDS, *scores.items()])
