"""Differences of tables and shards from recomputed ones: by column and row, by sample and member."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tar_archives import archive

from curation.curating.verification.differences import (
    columns_differ,
    first_difference,
    hash_of,
    named_hash,
    read_object,
    same_bytes,
    table_differs,
)
from curation.storage.parquet import to_parquet
from curation.storage.store import Store, open_store

NAN = float("nan")
STRUCT = [{"x": 1.0, "y": "a"}, None, {"x": NAN, "y": None}]
TABLE = pa.table({
    "uid": ["a", "b", "c"], "score": pa.array([0.5, None, NAN], pa.float32()), "stats": STRUCT,
    "vector": pa.array([[1.0, NAN], None, []], pa.list_(pa.float16())), "detail": pa.nulls(3, pa.string()),
})  # fmt: skip


def changed(name: str, values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    column = pa.array(values, kind or TABLE.schema.field(name).type)
    return TABLE.set_column(TABLE.schema.get_field_index(name), name, column)


def test_equal_rows_do_not_differ_whatever_their_chunks() -> None:
    """NaN equals NaN, and a column of nulls may be missing: earlier versions did not write it."""
    parts = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    for table in (TABLE, parts, TABLE.drop_columns(["detail"])):
        assert table_differs(TABLE, to_parquet(table)) is None
    assert columns_differ(TABLE, parts) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("uid", ["a", "x", "c"]),
        ("score", [0.5, 0.0, NAN]),
        ("score", [0.5, None, 1.0]),
        ("stats", [{"x": 1.0, "y": "a"}, None, {"x": NAN, "y": "b"}]),
        ("stats", [{"x": 1.0, "y": "a"}, {"x": None, "y": None}, {"x": NAN, "y": None}]),
        ("vector", [[1.0, NAN], None, [0.0]]),
        ("vector", [[1.0, NAN], [], []]),
        ("vector", [[1.0], None, [NAN]]),
        ("detail", [None, "why", None]),
    ],
)
def test_the_column_and_the_first_row_that_differ_are_named(name: str, values: list[Any]) -> None:
    other = changed(name, values)
    assert columns_differ(TABLE, other) == [name]
    said = table_differs(TABLE, to_parquet(other)) or ""
    row = next(n for n in range(3) if repr(other[name][n].as_py()) != repr(TABLE[name][n].as_py()))
    assert f"`{name}`" in said and said.endswith(f"row {row}")
    assert table_differs(TABLE, to_parquet(other), without=[name]) is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (to_parquet(TABLE.slice(1)), "2 rows"),
        (to_parquet(TABLE.drop_columns(["score"])), "columns"),
        (to_parquet(TABLE.append_column("more", pa.array([1, 2, 3]))), "more"),
        (to_parquet(changed("score", [0.5, None, NAN], pa.float64())), "`score`"),
        (b"<html>", ""),
        (to_parquet(TABLE)[:-7], ""),
    ],
)
def test_another_shape_is_told(data: bytes, says: str) -> None:
    found = table_differs(TABLE, data)
    assert found and says in found and "\n" not in found


def test_the_hash_in_a_name() -> None:
    unit, digest = "0" * 64, "0123456789abcdef"
    assert named_hash(f"data/{unit}-{digest}-0a1b2c3d.tar") == named_hash(f"data/{unit}-{digest}.parquet") == digest
    assert named_hash(f"data/{unit}.tar") == named_hash("data/shards-0.parquet") == named_hash("") == ""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


def test_hashes_and_objects_of_a_store(store: Store) -> None:
    store.put("k", b'{"a": 1}')
    assert hash_of(store, "k") == (sha256(b'{"a": 1}').hexdigest(), 8) and hash_of(store, "none") is None
    assert read_object(store, "k") == {"a": 1} and read_object(store, "none") is None
    for data in (b"[1]", b"{}", b"<html>", b'{"a": NaN}', b'{"a": 1, "a": 2}'):
        store.put("k", data)
        assert read_object(store, "k") is None, data


MEMBERS = [(f"s{n}.{ext}", f"{n} {ext}".encode()) for n in range(3) for ext in ("jpg", "txt")]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (MEMBERS[:4], "sample s2"),
        (MEMBERS[2:], "s0"),
        ([*MEMBERS, ("s3.jpg", b"x")], "1 samples"),
        ([*MEMBERS[:3], ("s1.txt", b"edited"), *MEMBERS[4:]], "sample s1: txt"),
        ([*MEMBERS[:3], *MEMBERS[4:]], "sample s1: txt"),
    ],
)
def test_the_first_sample_and_member_that_differ(
    members: list[tuple[str, bytes]], says: str, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "ours.tar").write_bytes(archive(MEMBERS))
    data = archive(members)
    store.put("0.tar", data)
    assert says in first_difference(store, "0.tar", tmp_path / "ours.tar", len(data))


def test_a_broken_archive_and_bytes_of_no_sample(store: Store, tmp_path: Path) -> None:
    (tmp_path / "ours.tar").write_bytes(archive(MEMBERS))
    cut = archive(MEMBERS)[:1100]
    store.put("0.tar", cut)
    assert "tar_" in first_difference(store, "0.tar", tmp_path / "ours.tar", len(cut))
    longer = archive(MEMBERS) + bytes(10240)
    store.put("0.tar", longer)
    assert "outside of samples" in first_difference(store, "0.tar", tmp_path / "ours.tar", len(longer))


@pytest.mark.parametrize(
    ("stored", "pieces", "same"),
    [
        (b"", [], True),
        (b"abc", [b"a", b"bc"], True),
        (b"abc", [b"", b"abc", b""], True),
        (b"abc", [b"abd"], False),
        (b"abc", [b"ab"], False),
        (b"abc", [b"abc", b"d"], False),
        (b"", [b"a"], False),
        (bytes(9 << 20), [bytes(5 << 20), bytes(4 << 20)], True),
        (bytes(9 << 20), [bytes(5 << 20), bytes((4 << 20) - 1)], False),
        (bytes(9 << 20), [bytes((9 << 20) - 1), b"\1"], False),
    ],
)
def test_bytes_are_the_same_or_not(stored: bytes, pieces: list[bytes], same: bool, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("a", stored)
    expected = (sha256(stored).hexdigest(), len(stored)) if same else ("", 0)
    assert same_bytes(store, "a", [memoryview(piece) for piece in pieces]) == expected


def test_no_object_has_no_bytes(tmp_path: Path) -> None:
    assert same_bytes(open_store(str(tmp_path)), "a", []) == ("", 0)
