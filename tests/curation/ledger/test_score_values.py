"""Values of scores: vectors as halves, words and hashes as they are, and nothing that its column does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from curation.core.errors import UserError
from curation.core.types import ShardRef
from curation.ledger import score_tables as scores
from curation.ledger import score_values
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store


def test_embeddings_are_half_precision_lists(tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    shard, column = ShardRef("a.tar", 1, "e"), scores.Column("e", "f")
    values = score_values.value_array(np.eye(3, 4, dtype=np.float32), np.array([True, False, True]))
    scores.commit_score(ledger, shard, column, pa.array(["a", "b", "c"]), values)
    assert scores.read(ledger, shard, column).column("value").to_pylist() == [[1, 0, 0, 0], None, [0, 0, 1, 0]]
    assert scores.fields(ledger, shard, column) == {}


def test_words_hashes_and_structs_are_columns_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    shard, valid = ShardRef("a.tar", 1, "e"), np.array([True, False])
    given = {"h": pa.array([2**63 - 1, 3]), "w": pa.array(["de", "en"])}
    given["s"] = pa.StructArray.from_arrays([pa.array([0.5, 1], pa.float32()), given["h"]], names=["a", "b"])
    found = {}
    for name, values in given.items():
        column = scores.Column(name, f"f{name}")
        scores.commit_score(ledger, shard, column, pa.array(["x", "y"]), score_values.value_array(values, valid))
        found |= score_values.parts(name, scores.read(ledger, shard, column).column("value"))
        assert scores.fields(ledger, shard, column).keys() <= found.keys()
    lists = {name: values.to_pylist() for name, values in found.items()}
    assert lists == {"h": [2**63 - 1, None], "w": ["de", None], "s.a": [0.5, None], "s.b": [2**63 - 1, None]}


@pytest.mark.parametrize("kind", [pa.list_(pa.float16()), pa.list_(pa.float16(), 3)], ids=str)
def test_vectors_as_bytes(kind: pa.DataType) -> None:
    """Before and after a round trip through Parquet, and for a slice of a column."""
    rows = [[1, 2, 3], None, [4, 5, 6], [7, float("nan"), 9]]
    rows = [row and [np.float16(x) for x in row] for row in rows]
    found = score_values.vector_bytes(pa.chunked_array([pa.array([rows[0], *rows], kind).slice(1)])).to_pylist()
    assert found == [np.array(rows[0], np.float16).tobytes(), None, np.array(rows[2], np.float16).tobytes(), None]
    assert score_values.vector_bytes(pa.chunked_array([pa.array([None, None], kind)])).to_pylist() == [None, None]
    assert len(score_values.vector_bytes(pa.chunked_array([pa.array([], kind)]))) == 0


def test_vectors_of_units_without_one_join_those_of_others() -> None:
    """A shard that is empty, or of which no sample can be used, doesn't know how wide vectors are."""
    some = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(6, np.float16)), 3)
    none = pa.array([None, None], pa.list_(pa.float16()))
    units = [score_values.vector_bytes(pa.chunked_array([part])) for part in (some, none, none[:0])]
    table = pa.concat_tables([pa.table({"v": unit}) for unit in units])
    assert table.column("v").to_pylist() == [np.ones(3, np.float16).tobytes()] * 2 + [None] * 2


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (np.array([1.0, 2.0]), pa.int32(), [1, None]),
        (np.array([1.0, np.nan], np.float16), pa.int64(), [1, None]),
        (np.array([2**24 + 1, 5]), pa.int32(), [2**24 + 1, None]),
        (np.array([2**62 + 12345, 5]), pa.int64(), [2**62 + 12345, None]),
        (np.array([2**53 - 1.0, 0.5]), pa.int64(), [2**53 - 1, None]),
        (np.array([2**24, 5]), pa.float32(), [2.0**24, None]),
        (np.array([None, None]), pa.int32(), [None, None]),
        (np.array([2**24 + 1, 5]), None, [2**24 + 1, None]),
        (np.array([True, False]), pa.int32(), [1, None]),
        (pa.array([True, False]), pa.float32(), [1.0, None]),
        (pa.array([0.5, 1.5], pa.float64()), pa.float32(), [0.5, None]),
        (np.eye(2, dtype=np.float32), pa.list_(pa.float16()), [[1.0, 0.0], None]),
    ],
)
def test_values_become_what_their_scorer_says(values: Any, kind: pa.DataType, wanted: list[Any]) -> None:
    found = score_values.value_array(values, np.array([True, False]), kind)
    assert found.to_pylist() == wanted and (kind is None or found.type == kind or score_values.is_vector(kind))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array(["a"]), "declares int32, but returns string"),
        (np.array([2**31]), "declares int32, but returns int64: Integer value 2147483648 not in range"),
        (np.array([2**63], np.uint64), "declares int32, but returns uint64: Integer value"),
        (np.array([0.5]), "declares int32, but returns float64: Float value 0.5"),
        (np.array([np.nan]), "declares int32, but returns float64: Float value nan"),
        (np.array([object()]), "declares int32, but returns object"),
        (np.array([1j]), "declares int32, but returns complex128"),
    ],
)
def test_values_that_are_not_what_their_scorer_says_are_one_line(values: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        score_values.value_array(values, np.array([True]), pa.int32())
    assert "\n" not in str(raised.value)


def test_whole_numbers_that_a_float32_does_not_hold_are_no_score() -> None:
    with pytest.raises(UserError, match="declares float, but returns int64: Integer value 16777217 not in range"):
        score_values.value_array(np.array([2**24 + 1]), np.array([True]), pa.float32())
