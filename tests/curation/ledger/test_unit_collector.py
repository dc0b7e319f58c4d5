"""The collector gives streamed rows back to their units."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit_rows import rows

from curation.core import parallel
from curation.core.types import ShardRef, uid
from curation.ledger import score_tables as scores
from curation.ledger import unit_collector
from curation.ledger.ledger import Ledger
from curation.shards.unit_reader import INDEX_SCHEMA, failure_table
from curation.storage.store import open_store


@pytest.mark.slow
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


def test_a_unit_that_could_not_be_read_has_no_rows(tmp_path: Path) -> None:
    ledger, shard = Ledger(open_store(str(tmp_path))), ShardRef("a.tar", 1, "e")
    aside = {shard: "store_archived"}
    ((reason, table, _),) = scores.load_units(ledger, [shard], [scores.Column("index", "f")], ["key"], unreadable=aside)
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
    for number, (_, table, _) in enumerate(found):
        assert table.column("uid")[0].as_py() == uid(*shards[number][::2], 0) and len(loaded) <= number + 2
