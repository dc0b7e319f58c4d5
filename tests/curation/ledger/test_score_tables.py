"""Score tables: read where hash, uids and record agree, and joined with what is poison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from unit_rows import rows

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.core.types import ShardRef
from curation.curating import score_store
from curation.ledger import score_tables as scores
from curation.ledger import score_values, unit_collector
from curation.ledger.ledger import Ledger, unit_id
from curation.storage.store import open_store


def test_missing_read_and_damage(tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    shard = ShardRef("a.tar", 1, "e")
    column, other = scores.Column("s", "f"), scores.Column("t", "g")
    values = score_values.value_array(np.array([0.5, 0.25, 9.0]), np.array([True, True, False]))
    record = scores.commit_score(ledger, shard, column, pa.array(["a", "b", "c"]), values)
    assert scores.missing(ledger, shard, [column, other]) == ["t"]
    assert scores.read(ledger, shard, column).column("value").to_pylist() == [0.5, 0.25, None]
    assert scores.fields(ledger, shard, column) == {"s": pa.float32()}
    with pytest.raises(LedgerError):
        scores.read(ledger, shard, other)
    ledger.store.put(record["data"]["key"], b"short")
    with pytest.raises(LedgerError, match="damaged"):
        scores.read(ledger, shard, column)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Ledger, list[ShardRef], list[scores.Column]]:
    """Two shards of equal length, with an index and a score each."""
    ledger, shards = Ledger(open_store(str(tmp_path))), [ShardRef(f"{n}.tar", 9, f"e{n}") for n in (0, 1)]
    columns = [scores.Column("index", "f"), scores.Column("s", "g")]
    for n, shard in enumerate(shards):
        (unit,) = unit_collector.Collector().add(rows(shard, 3))
        scores.commit_index(ledger, shard, columns[0], unit.rows, None)
        values = score_values.value_array(np.full(3, float(n)), np.ones(3, bool))
        scores.commit_score(ledger, shard, columns[1], unit.rows.column("uid"), values)
    return ledger, shards, columns


@pytest.mark.parametrize("which", [0, 1], ids=["index", "score"])
@pytest.mark.parametrize("how", ["records", "keys", "data"])
def test_exchanged_records_are_refused(
    two: tuple[Ledger, list[ShardRef], list[scores.Column]], which: int, how: str
) -> None:
    """For shards of equal length: whole records, records with the right key, or only the objects that they name."""
    ledger, shards, columns = two
    list(scores.load_units(ledger, shards, columns, []))
    keys = [f"units/{unit_id(shard, columns[which].fingerprint)}.json" for shard in shards]
    records = [json.loads(ledger.store.get(key)) for key in keys]
    for key, mine, other in zip(keys, records, records[::-1], strict=True):
        changed = {"records": other, "keys": {**other, "key": mine["key"]}, "data": {**mine, "data": other["data"]}}
        ledger.store.put(key, canonical(changed[how]))
    with pytest.raises(LedgerError, match=r"is not the record of (index|s) of 0\.tar: .*`data.key`"):
        list(scores.load_units(ledger, shards, columns, []))
    damaged = score_store.take_out_damaged(ledger, shards[0], columns)
    assert damaged == [columns[which].name] == scores.missing(ledger, shards[0], columns)


@pytest.mark.parametrize("which", [0, 1], ids=["index", "score"])
def test_a_table_of_other_uids_is_refused(two: tuple[Ledger, list[ShardRef], list[scores.Column]], which: int) -> None:
    """The same holds if its hash is the one in the record."""
    ledger, shards, columns = two
    key = f"units/{unit_id(shards[0], columns[which].fingerprint)}.json"
    record, other = json.loads(ledger.store.get(key)), scores.record_of(ledger, shards[1], columns[which]).data
    ledger.store.put(record["data"]["key"], ledger.store.get(other.key))
    ledger.store.put(key, canonical({**record, "data": {**other.to_json(), "key": record["data"]["key"]}}))
    with pytest.raises(LedgerError, match=r"of 0\.tar: the uids in .* belong to another shard") as error:
        list(scores.load_units(ledger, shards, columns, []))
    assert "curate run RECIPE --check-scores" in error.value.fix


def test_a_table_of_other_length_is_refused(two: tuple[Ledger, list[ShardRef], list[scores.Column]]) -> None:
    ledger, shards, columns = two
    key = f"units/{unit_id(shards[0], columns[1].fingerprint)}.json"
    ledger.store.put(key, canonical({**json.loads(ledger.store.get(key)), "seen": 4}))
    with pytest.raises(LedgerError, match="has 3 rows, but its record has 4"):
        list(scores.load_units(ledger, shards, columns, []))


def test_what_is_poison_to_one_scorer_is_said_where_that_score_is_read(tmp_path: Path) -> None:
    from curation.curating.score_store import export

    ledger, shard = Ledger(open_store(str(tmp_path / "scores"))), ShardRef("a.tar", 1, "e")
    index, plain, dies, other = (scores.Column(name, name) for name in ("index", "s", "t", "u"))
    (unit,) = unit_collector.Collector().add(rows(shard, 3))
    scores.commit_index(ledger, shard, index, unit.rows, None)
    uids = unit.rows.column("uid")
    assert (
        "poison" not in scores.commit_score(ledger, shard, plain, uids, pa.array([1.0, 2, 3], pa.float32())).to_json()
    )
    values = pa.array([1.0, None, None], pa.float32())
    record = scores.commit_score(ledger, shard, dies, uids, values, {2: "poison_hung", 1: "poison_died"})
    assert record.poison == {"1": "poison_died", "2": "poison_hung"}
    scores.commit_score(ledger, shard, other, uids, values, {1: "poison_raised"})

    def reasons(*columns: scores.Column) -> list[str | None]:
        ((unit_reason, table, _),) = scores.load_units(ledger, [shard], [index, *columns], [])
        assert unit_reason is None
        return table.column("reason").to_pylist()

    assert reasons(plain) == [None] * 3  # the index is everybody's
    assert reasons(plain, dies, other) == [None, "poison_died", "poison_hung"]
    assert reasons(other) == [None, "poison_raised", None]
    (path,) = export(ledger, [shard], [index, plain, dies], tmp_path)
    exported = pa.parquet.read_table(path)
    assert exported.column("reason").to_pylist() == [None, "poison_died", "poison_hung"]
    assert exported.column("s").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    "poison",
    [{"abc": "poison_died"}, {"-1": "poison_died"}, {"3": "poison_died"}, {"01": "poison_died"}, {"9" * 5000: "x"},
     {"1": "odd"}, {"1": 3}, {"\u0661": "poison_died"}],
)  # fmt: skip
def test_poison_names_rows_that_exist_and_known_reasons(
    poison: dict[str, object], two: tuple[Ledger, list[ShardRef], list[scores.Column]]
) -> None:
    ledger, shards, columns = two
    key = f"units/{unit_id(shards[0], columns[1].fingerprint)}.json"
    ledger.store.put(key, canonical({**json.loads(ledger.store.get(key)), "poison": poison}))
    with pytest.raises(LedgerError, match="poison") as error:
        list(scores.load_units(ledger, shards, columns, []))
    assert "\n" not in str(error.value) and "--check-scores" in (error.value.fix or "")
    assert score_store.take_out_damaged(ledger, shards[0], columns) == [columns[1].name]
