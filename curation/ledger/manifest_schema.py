"""The columns of a manifest: the fixed ones, then one for each score that is not a vector, by name."""

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
    ("detail", pa.string()),  # about the reason, if the sample is at fault: "70000 x 3 pixels, more than ..."
    ("origin", pa.string()),  # real, relabelled, captioned, restored or synthetic (`core.origins`)
]


#: Columns that earlier versions didn't write: read as null. A part whose samples are all real has no `origin`.
LATER = {"detail": pa.string(), "origin": pa.string()}


def schema(scores: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of a manifest: the fixed columns, then `scores` (name -> type; no vectors)."""
    return pa.schema([*BASE_FIELDS, *scores.items()])
