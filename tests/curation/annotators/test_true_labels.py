"""True labels from a table of labels, of votes, or of a column a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.annotators.true_labels import TrueLabels, read_true_labels
from curation.core.errors import UserError

CLASSES = ["cat", "dog", "owl"]
UIDS = ["a", "b", "c"]


def read(path: Path, **columns: Any) -> TrueLabels:
    pq.write_table(pa.table(columns), path / "truth.parquet")
    return read_true_labels(str(path / "truth.parquet"), "--truth", CLASSES, UIDS)


def test_labels(tmp_path: Path) -> None:
    found = read(tmp_path, uid=["c", "b", "other", "a"], label=["owl", None, "cat", "bear"])
    assert found == TrueLabels({"c": "owl", "a": "bear"}, {"missing_label": 1})


def test_numbers_are_labels_too(tmp_path: Path) -> None:
    assert read(tmp_path, uid=["a"], label=[7]).labels == {"a": "7"}


@pytest.mark.parametrize(
    "votes", [[[3, 1, 0], [1, 1, 0], [0, 0, 0]], [["cat", "dog", "cat"], ["dog", "cat"], []]], ids=["numbers", "names"]
)
def test_votes(votes: list[Any], tmp_path: Path) -> None:
    assert read(tmp_path, uid=UIDS, votes=votes) == TrueLabels({"a": "cat"}, {"no_votes": 1, "tied_votes": 1})


def test_a_column_a_class(tmp_path: Path) -> None:
    found = read(tmp_path, uid=UIDS, cat=[0.1, 0.2, -1.0], dog=[0.2, 0.7, 1.0], owl=[0.7, 0.1, 1.0])
    assert found == TrueLabels({"a": "owl", "b": "dog"}, {"negative_votes": 1})


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"uid": ["x", "y"], "label": ["cat", "dog"]}, "no true label for any of 3 samples"),
        ({"uid": ["a", "a"], "label": ["cat", "dog"]}, "two rows for uid a"),
        ({"uid": ["a", "a"], "votes": [["cat"], ["dog"]]}, "two rows for uid a"),
        ({"label": ["cat"]}, "no column of uids"),
        ({"uid": ["a"], "cat": [1]}, "no column for the class 'dog'"),
    ],
)
def test_mistakes(columns: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        read(tmp_path, **columns)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--truth: .* does not exist"):
        read_true_labels(str(tmp_path / "none.parquet"), "--truth", CLASSES, UIDS)


def test_a_queue_without_items_needs_no_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uid": ["x"], "label": ["cat"]}), tmp_path / "truth.parquet")
    assert read_true_labels(str(tmp_path / "truth.parquet"), "--truth", CLASSES, []).labels == {}
