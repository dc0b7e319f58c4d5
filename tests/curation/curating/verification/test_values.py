"""A score table and its record: values count only where hash, name and uids bind them to the unit."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import score_record

from curation.core.types import ShardRef
from curation.curating.verification.values import DeclaredFields, believable_poison, stored_values
from curation.ledger.attempts import REASONS
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.score_tables import Column
from curation.storage.parquet import to_parquet
from curation.storage.store import Store, open_store

SHARD, COLUMN = ShardRef("0.tar", 1, "e"), Column("s", "f")
UNIT = unit_id(SHARD, COLUMN.fingerprint)
UIDS = ["a" * 32, "b" * 32, "c" * 32]
INDEX = pa.table({"uid": UIDS})
VALUES = pa.array([0.5, None, 1.0], pa.float32())


def table(uids: list[str] = UIDS) -> bytes:
    return to_parquet(pa.table({"uid": uids, "value": VALUES}))


def stored(store: Store, data: bytes, named: bytes | None = None) -> dict[str, Any]:
    """Put a table under the hash of `named`, and return its record."""
    digest = sha256(data if named is None else named).hexdigest()
    key = f"data/{UNIT}-{digest[:16]}-0a1b2c3d.parquet"
    store.put(key, data)
    return score_record(data={"key": key, "sha256": digest, "bytes": len(data)})


def found(store: Store, record: dict[str, Any] | None, index: pa.Table | None = INDEX) -> tuple[str, Any]:
    code, _, what, values = stored_values(Ledger(store), SHARD, COLUMN, record, index)
    assert bool(code) == (values is None)
    return code or what, values


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def test_a_whole_table_of_the_unit_gives_its_values(store: Store) -> None:
    assert found(store, stored(store, table()))[1].combine_chunks() == VALUES


def test_what_is_not_bound_to_the_unit_has_no_values(store: Store) -> None:
    assert found(store, None)[0] == "score_record"
    record = stored(store, table())
    assert found(store, {**record, "data": 3})[0] == "score_record"
    assert found(store, {**record, "data": {"key": f"data/{'0' * 64}-0.parquet"}})[0] == "score_record"
    assert found(store, record, None)[0] == "score_table", "without its index the uids are not known"
    assert found(store, stored(store, table(UIDS[::-1])))[0] == "score_table"
    assert found(store, stored(store, b"<html>"))[0] == "score_table"
    assert found(store, stored(store, table(), named=b"other"))[0] == "score_table"
    store.delete(record["data"]["key"])
    assert found(store, record)[0] == "score_table"


def test_poison_is_believed_where_there_is_no_value() -> None:
    reason = sorted(REASONS)[0]
    poison = {"1": reason, "0": reason, "7": reason, "x": reason}
    values = pa.chunked_array([VALUES])
    assert believable_poison(score_record(poison=poison), values) == {1: reason}
    assert believable_poison(score_record(poison={"1": "no_such_reason"}), values) == {}
    for record in (None, score_record(), score_record(poison=[1]), score_record(poison={"1": 3})):
        assert believable_poison(record, values) == {}


def test_fields_that_do_not_follow_from_the_unit_are_put_right() -> None:
    said = DeclaredFields(called={"f": frozenset({"s", "t"})})
    assert said.fixed(score_record(column="t"), COLUMN) == {}
    assert said.fixed(score_record(column="u"), COLUMN) == {"column": "s"}
    assert said.fixed(score_record(column="u"), Column("s", "other")) == {}, "others may share the scores"
    for software, right in ((None, {}), ("0" * 16, {}), ("x", {"software": None}), (3, {"software": None})):
        assert said.fixed(score_record(software=software), COLUMN) == right


def test_the_type_of_a_column_is_its_scorers() -> None:
    said = DeclaredFields(kinds={"s": pa.float32()})
    assert said.has_kind(COLUMN, pa.chunked_array([VALUES]))
    assert not said.has_kind(COLUMN, pa.chunked_array([pa.array([1.0], pa.float64())]))
    assert said.has_kind(Column("unknown", "f"), pa.chunked_array([pa.array(["x"])]))
