"""Tables of another model's probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scorers_given import uid

from curation.core.errors import PinnedFileError
from curation.models.probability_table import ProbabilityFile, ProbabilityTable, check_table, shared_table


def table(
    path: Path, rows: Sequence[Any], uids: Sequence[Any] | None = None, classes: bytes | None = None,
    named: tuple[str, ...] = (), kind: pa.DataType | None = None,
) -> ProbabilityTable:  # fmt: skip
    found = pa.table({"uid": uids or [uid(n) for n in range(len(rows))], "probabilities": pa.array(rows, kind)})
    found = found.replace_schema_metadata({b"classes": classes} if classes else None)
    pq.write_table(found, path, row_group_size=2)
    return shared_table(ProbabilityFile(str(path), sha256(path.read_bytes()).hexdigest()), named, None)


def test_rows_and_reasons(tmp_path: Path) -> None:
    rows = [[0.2, 0.8], [0.5, 0.6], [1.0], None, [1.1, -0.1], [None, 1.0], [0.0, 1.0], [0.30005, 0.7]]
    found, reasons = table(tmp_path / "p", rows).posterior([uid(n) for n in (7, 6, 5, 4, 3, 2, 1, 0, 99)] + [None])
    assert found[7].tolist() == pytest.approx([0.2, 0.8]) and found[1].tolist() == [0, 1]
    assert found.sum(axis=1).tolist() == pytest.approx([1] * 10)
    bad = dict.fromkeys((2, 3, 4, 5, 6), "bad_probabilities")
    assert reasons == bad | {8: "no_probabilities", 9: "no_probabilities"}


@pytest.mark.parametrize("kind", [pa.list_(pa.float16()), pa.list_(pa.float64(), 2), pa.large_list(pa.float32())])
def test_any_list_of_numbers(kind: pa.DataType, tmp_path: Path) -> None:
    found, reasons = table(tmp_path / "p", [[0.25, 0.75], [1.0, 0.0]], kind=kind).posterior([uid(1), uid(0)])
    assert found.tolist() == [[1, 0], [0.25, 0.75]] and not reasons


def test_names_of_classes(tmp_path: Path) -> None:
    assert table(tmp_path / "p", [[0.25, 0.75]], classes=b'["a", "b"]').classes == ["a", "b"]
    assert table(tmp_path / "p", [[0.25, 0.75]], named=("a", "b")).classes == ["a", "b"]
    wide = table(tmp_path / "p", [[0.25, 0.75]], classes=b'["a", "b", "c"]')
    assert wide.posterior([uid(0)])[1] == {0: "bad_probabilities"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [[0.5, 0.5]] * 2, "uids": [uid(0)] * 2}, "a uid occurs twice"),
        ({"rows": [[0.5, 0.5]], "uids": ["00017.jpg"]}, "'00017.jpg' is not a uid"),
        ({"rows": [[0.5, 0.5]], "uids": ["z" * 32]}, "no usable probabilities"),
        ({"rows": [[1.0]]}, "its rows have 1 numbers"),
        ({"rows": [], "kind": pa.list_(pa.float32())}, "its rows have 0 numbers"),
        ({"rows": [0.5]}, "no usable probabilities"),
        ({"rows": [[0.5, 0.5]], "classes": b'["a", "b"]', "named": ("b", "a")}, "the recipe names others"),
        ({"rows": [[0.5, 0.5]], "classes": b'{"a": 1}'}, "not a JSON list of names"),
        ({"rows": [[0.5, 0.5]], "named": ("a", "a")}, "two of its classes"),
    ],
)
def test_a_table_of_another_form_is_one_line(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PinnedFileError, match=words) as caught:
        table(tmp_path / "p.parquet", **changes)
    assert "\n" not in str(caught.value)


def test_another_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"uid,probabilities\n")
    with pytest.raises(PinnedFileError, match="no usable probabilities"):
        shared_table(ProbabilityFile(f"{tmp_path}/p", sha256(b"uid,probabilities\n").hexdigest()), (), None)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"uid": ["a"]}, "probabilities"),
        ({"uid": [1], "probabilities": [[0.5, 0.5]]}, "`uid` is int64"),
        ({"uid": ["a"], "probabilities": [0.5]}, "`probabilities` is double"),
    ],
)
def test_the_columns_are_checked_before_a_run(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "p")
    file = ProbabilityFile(f"{tmp_path}/p", sha256((tmp_path / "p").read_bytes()).hexdigest())
    with pytest.raises(PinnedFileError, match=words):
        check_table(file, (), None)


def test_a_good_table_passes_the_check(tmp_path: Path) -> None:
    table(tmp_path / "p", [[0.5, 0.5]])
    file = ProbabilityFile(f"{tmp_path}/p", sha256((tmp_path / "p").read_bytes()).hexdigest())
    check_table(file, ("a", "b"), None)
