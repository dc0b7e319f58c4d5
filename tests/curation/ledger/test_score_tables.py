"""Score tables and the collector that gives streamed rows back to their units."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core import parallel
from curation.core.digest import canonical
from curation.core.errors import LedgerError, UserError
from curation.core.types import ShardRef, uid
from curation.curating import score_store
from curation.ledger import score_tables as scores
from curation.ledger import score_values, unit_collector
from curation.ledger.ledger import Ledger, unit_id
from curation.shards.unit_reader import INDEX_SCHEMA, STREAM_SCHEMA, failure_table
from curation.storage.store import open_store


def rows(shard: ShardRef, n: int, reason: str | None = None) -> pa.Table:
    """The stream of a unit: n rows and the end row."""
    items = [
        {"shard_key": shard.key, "shard_size": shard.size, "shard_etag": shard.etag, "end": i == n, "row": i,
         "offset": 512 * i, "uid": uid(shard.key, shard.etag, 512 * i), "reason": reason if i == n else None}
        for i in range(n + 1)
    ]  # fmt: skip
    return pa.Table.from_pylist(items, STREAM_SCHEMA)


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 1000), repeat=st.booleans())
def test_the_collector_gives_every_unit_back_whole(sizes: list[int], seed: int, repeat: bool) -> None:
    rng = random.Random(seed)
    shards = [ShardRef(f"{i}.tar", i, "e") for i in range(len(sizes))]
    stream = pa.concat_tables([rows(shard, n) for shard, n in zip(shards, sizes, strict=True)])
    cuts = sorted(rng.sample(range(stream.num_rows + 1), min(4, stream.num_rows)))
    pieces = [stream.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, stream.num_rows], strict=True)]
    if repeat:  # a retried task: some rows come twice, before their unit is whole
        pieces = [
            piece
            for piece in pieces
            for _ in range(1 + (piece.num_rows > 0 and not piece.column("end").to_pylist()[-1]))
        ]
    rng.shuffle(pieces)
    collector = unit_collector.Collector()
    found: dict[str, pa.Table] = {}
    for piece in pieces:
        for unit in collector.add(piece):
            found.setdefault(unit.shard.key, unit.rows)
    assert set(found) == {shard.key for shard in shards}
    for shard, n in zip(shards, sizes, strict=True):
        assert found[shard.key].column("uid").to_pylist() == [uid(shard.key, shard.etag, 512 * i) for i in range(n)]


def test_rows_that_come_again_after_their_unit_was_whole_are_let_go() -> None:
    collector, shard = unit_collector.Collector(), ShardRef("a.tar", 1, "e")
    assert len(list(collector.add(rows(shard, 3)))) == 1
    assert list(collector.add(rows(shard, 3).slice(1, 2))) == list(collector.add(rows(shard, 3))) == []
    assert not collector._pending


def test_a_unit_of_many_parts_is_looked_at_once() -> None:
    collector, shard, n = unit_collector.Collector(), ShardRef("a.tar", 1, "e"), 50
    table = rows(shard, n)
    order = [n, *range(n - 1), *range(n - 1), n - 1]  # its end first, most rows twice
    found = [list(collector.add(table.slice(row, 1))) for row in order]
    assert [len(units) for units in found] == [0] * (len(order) - 1) + [1]
    assert found[-1][0].rows.column("row").to_pylist() == list(range(n))


def test_a_unit_that_failed_may_come_after_all() -> None:
    collector, shard = unit_collector.Collector(), ShardRef("a.tar", 1, "e")
    failed = failure_table(shard, "the store says no", [])
    assert [unit.failure for unit in collector.add(failed)] == ["the store says no"]
    assert [unit.failure for unit in collector.add(rows(shard, 2))] == [None]


def test_a_broken_archive_quarantines_every_row(tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    shard, column = ShardRef("a.tar", 1, "e"), scores.Column("index", "f")
    (unit,) = unit_collector.Collector().add(rows(shard, 3, "tar_truncated"))
    record = scores.commit_index(ledger, shard, column, unit.rows, unit.reason)
    assert record["quarantined"] == {"tar_truncated": 3}
    table = scores.read(ledger, shard, column)
    assert table.column("reason").to_pylist() == ["tar_truncated"] * 3
    assert table.column_names == INDEX_SCHEMA.names


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
    """Of shards of equal length: whole records, records with the right key, or only what they name."""
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
    """Also where its hash is the one in the record."""
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
        ((unit_reason, table),) = scores.load_units(ledger, [shard], [index, *columns], [])
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


def test_a_unit_that_could_not_be_read_has_no_rows(tmp_path: Path) -> None:
    ledger, shard = Ledger(open_store(str(tmp_path))), ShardRef("a.tar", 1, "e")
    aside = {shard: "store_archived"}
    ((reason, table),) = scores.load_units(ledger, [shard], [scores.Column("index", "f")], ["key"], unreadable=aside)
    assert reason == "store_archived" and table.num_rows == 0


def test_large_units_are_not_piled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, column = Ledger(open_store(str(tmp_path))), scores.Column("index", "f")
    shards = [ShardRef(f"{n:02d}.tar", 1, "e") for n in range(20)]
    for shard in shards:
        (unit,) = unit_collector.Collector().add(rows(shard, 3))
        scores.commit_index(ledger, shard, column, unit.rows, None)
    loaded: list[str] = []

    def load(ledger: Ledger, record: Any, names: Any) -> pa.Table:
        loaded.append(record["key"])
        return read(ledger, record, names)

    read = scores.load
    monkeypatch.setattr(scores, "load", load)
    monkeypatch.setattr(parallel, "AHEAD", 1)
    found = scores.load_units(ledger, shards, [column], ["key"])
    for number, (_, table) in enumerate(found):
        assert table.column("uid")[0].as_py() == uid(*shards[number][::2], 0) and len(loaded) <= number + 2


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
    """As tables have them after a trip through Parquet, or before; also a slice of a column."""
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
