"""Columns of the manifest: those of every sample first, then the scores in the recipe's order."""

from __future__ import annotations

import pyarrow as pa

from curation.ledger.manifest_schema import BASE_FIELDS, LATER, schema


def test_scores_follow_the_columns_of_every_sample() -> None:
    found = schema({"b": pa.float32(), "a": pa.int64()})
    assert found.names == [*dict(BASE_FIELDS), "b", "a"]
    assert found.field("weight").type == pa.float32() and found.field("a").type == pa.int64()


def test_columns_that_consumers_rely_on_keep_their_names_and_types() -> None:
    """Manifests of all versions are read together, so a column is never renamed or retyped."""
    kinds = {name: str(kind) for name, kind in BASE_FIELDS}
    assert kinds == {
        "uid": "string", "key": "string", "decision": "string", "reason": "string", "weight": "float",
        "source_key": "string", "source_etag": "string", "source_offset": "int64", "source_length": "int64",
        "width": "int32", "height": "int32", "content_hash": "string",
        "output_shard": "string", "output_offset": "int64", "detail": "string", "origin": "string",
    }  # fmt: skip
    assert set(LATER) <= set(kinds)
