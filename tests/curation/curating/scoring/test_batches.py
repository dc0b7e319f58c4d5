"""From units to batches: sizes, order, what a failing store leaves, and what a watch over decoding covers. No Ray."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from broken_s3 import BrokenS3
from builders import write_shard

from curation.core.executor import WorkerDiedError, WorkerPlace
from curation.core.types import ShardRef
from curation.curating.scoring.batches import (
    blanked,
    decode_ahead,
    decode_here,
    decode_noted,
    in_turns,
    make_batch,
    part,
    shard_refs,
    units_table,
    usable,
)
from curation.curating.scoring.black_box import NullBlackBox
from curation.curating.scoring.watch import watched
from curation.shards import unit_reader as units
from curation.shards.images import Preprocess
from curation.shards.tar_samples import read_samples
from curation.shards.unit_reader import UnitReader, view_column
from curation.storage.store import Store, StoreOptions, open_store

VIEW = Preprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1))
SHARD = "in/a.tar"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("pool")
    for number in range(3):
        write_shard(folder / f"{number}.tar", number, 24)
    return open_store(str(folder))


def ref(store: Store, key: str) -> ShardRef:
    info = store.head(key)
    return ShardRef(key, info.size, info.etag)


def test_a_batch_has_the_pixels_of_its_rows_and_is_filled_up(pool: Store) -> None:
    (table,) = decode_here(UnitReader(pool, views=[VIEW]), [ref(pool, "0.tar")])
    batch, good = make_batch(table, [VIEW], 32), usable(table)
    assert len(batch.captions) == 32 and batch.captions[1] == table["caption"][1].as_py()
    pixels = batch.views[view_column(VIEW)]
    assert pixels.shape == (32, 8, 8, 3) and not pixels[25:].any() and not batch.sizes[25:].any()
    assert good.sum() == 24 - 5 and not good[24], "five flaws; the end row is no sample"
    assert all(pixels[row].any() == good[row] for row in range(24))
    assert (batch.sizes[:24].all(axis=1) == good[:24]).all()


def test_a_unit_that_the_store_refuses_is_a_failure_row_between_the_others(pool: Store) -> None:
    first = ref(pool, "0.tar")
    tables = list(decode_here(UnitReader(pool), [first, first._replace(etag="another"), ref(pool, "2.tar")]))
    ends = [row for table in tables for row in table.to_pylist() if row["end"]]
    assert [end["row"] for end in ends] == [24, -1, 24] and ends[1]["reason"].startswith("object_changed: ")


def test_units_are_a_table_of_their_keys_sizes_and_etags() -> None:
    table = units_table([ShardRef("a", 1, "x"), ShardRef("b", 2, "y")])
    assert table.to_pylist()[1] == {"shard_key": "b", "shard_size": 2, "shard_etag": "y"}
    assert units_table([]).schema == table.schema and not units_table([]).num_rows


def test_units_come_as_they_stand_in_their_table() -> None:
    shards = [ShardRef("a", 1, "x"), ShardRef("b", 2, "y")]
    columns = zip(("shard_key", "shard_size", "shard_etag"), zip(*shards, strict=True), strict=True)
    assert list(shard_refs(pa.table({name: list(column) for name, column in columns}))) == shards


class Watched(NullBlackBox):
    """A box that notes nothing and watches."""

    def watched(self, seconds: float) -> AbstractContextManager[None]:
        return watched(seconds)


def test_a_unit_whose_task_dies_is_decoded_here_under_a_watch(pool: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **options: armed.append(seconds))
    shards = [ref(pool, "0.tar"), ref(pool, "1.tar")]
    defect = False

    def stream(function: Any, items: Any, ahead: int, num_cpus: float) -> Iterator[Iterator[pa.Table]]:
        assert (ahead, num_cpus) == (1, 0.5)
        assert function.args[0].watch is None and function.keywords == {"seconds": 7}

        def tables(shard: ShardRef) -> Iterator[pa.Table]:
            if defect:
                raise KeyError("a defect")
            if shard.key == "0.tar":
                raise WorkerDiedError("dead")
            yield from UnitReader(pool).read(shard)

        return map(tables, items)

    noted: list[int] = []
    reader = UnitReader(pool, watch=lambda shard, row: noted.append(row))
    place = WorkerPlace("here", Path("nowhere"), stream)
    found = pa.concat_tables(decode_ahead(place, reader, shards, 1, 0.5, Watched(), 7))
    assert found.equals(pa.concat_tables(decode_here(UnitReader(pool), shards)))
    assert set(noted) == {-1, *range(24)} and len(armed) >= 1 and armed[0] == 7
    defect = True
    with pytest.raises(KeyError):
        list(decode_ahead(place, reader, shards, 1, 0.5, Watched(), 7))


def test_units_are_read_in_turns_where_the_engine_bounds_what_waits() -> None:
    def tables(unit: int) -> Iterator[Any]:
        yield from (f"{unit}.{number}" for number in range(unit))

    units = [2, 0, 3, 1, 2]
    assert list(in_turns(map(tables, units), 1)) == [table for unit in units for table in tables(unit)]
    wide = list(in_turns(map(tables, units), 3))
    assert wide == ["2.0", "3.0", "2.1", "1.0", "3.1", "3.2", "2.0", "2.1"]
    assert list(in_turns(iter([]), 3)) == []


def test_a_unit_that_dies_in_its_turn_is_decoded_here_and_the_others_go_on(pool: Store) -> None:
    shards = [ref(pool, f"{number}.tar") for number in range(3)]

    def stream(function: Any, items: Any, ahead: int, num_cpus: float) -> Iterator[Iterator[pa.Table]]:
        def tables(shard: ShardRef) -> Iterator[pa.Table]:
            for table in UnitReader(pool).read(shard):
                yield table.slice(0, 5)
                if shard.key == "1.tar":
                    raise WorkerDiedError("dead")
                yield table.slice(5)

        return map(tables, items)

    noted: list[int] = []
    reader = UnitReader(pool, watch=lambda shard, row: noted.append(row))
    place = WorkerPlace("here", Path("nowhere"), stream, in_turns=True)
    found = pa.concat_tables(decode_ahead(place, reader, shards, 2, 1, NullBlackBox(), 7))
    assert set(noted) == {-1, *range(24)}
    whole = pa.concat_tables(decode_here(UnitReader(pool), shards))
    for shard in shards:  # the rows of each in order, those before the death twice
        rows = found.filter(pc.equal(found["shard_key"], shard.key))
        if shard.key == "1.tar":
            rows = rows.slice(5)
        assert rows.equals(whole.filter(pc.equal(whole["shard_key"], shard.key)))


@pytest.mark.parametrize("broken", [False, True])
def test_no_watch_runs_and_no_sample_is_in_work_while_a_store_stalls(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    write_shard(tmp_path / "a.tar", 1, 24)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    if broken:  # in the middle: the shard is read again, not only its damaged samples
        data[list(read_samples([bytes(data)], len(data)))[5].start + 100] ^= 0x80
    armed, noted, seen = threading.Event(), [-1], list[int]()
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **options: armed.set())
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", armed.clear)

    def stalls(method: str, path: str) -> str:
        """Answers once the reader waits, as a store does that stalls for longer than any watch."""
        deadline = time.monotonic() + 20
        while armed.is_set() and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append(noted[0] if not armed.is_set() else -2)
        return ""

    inspect = units.inspect

    def inspected(*arguments: Any) -> Any:
        assert armed.is_set() and noted[0] >= 0, "decoding is watched, and noted"
        return inspect(*arguments)

    monkeypatch.setattr(units, "inspect", inspected)
    with BrokenS3() as server:
        server.objects[f"/bucket/{SHARD}"] = bytes(data)
        store = open_store("s3://bucket", StoreOptions(endpoint=server.endpoint, patience=5))
        shard, server.trouble = ref(store, SHARD), stalls
        reader = UnitReader(store, watch=lambda shard, row: noted.__setitem__(0, row))
        (*_, last) = decode_noted(decode_here(reader, [shard]), Watched(), 5)
    assert last["reason"][-1].as_py() == ("tar_bad_header" if broken else None)
    assert seen == [-1, -1], "the block, and what is read again"
    assert not armed.is_set() and noted == [-1]


def test_columns_that_scorers_read(pool: Store) -> None:
    (table,) = decode_here(UnitReader(pool, fields=["name", "number"]), [ref(pool, "0.tar")])
    batch = make_batch(table, (), 32, ["uid", "json.name", "json.number"])
    assert {len(values) for values in batch.columns.values()} == {32} and "json.number" in batch.columns
    assert batch.columns["uid"][:25] == table["uid"].to_pylist()[:25] and batch.columns["uid"][25:] == [None] * 7
    assert batch.columns["json.name"][1] == "thing-1" and batch.columns["json.number"][1] == 1
    assert batch.columns["json.name"][5] is None, "a truncated image"
    assert part(batch, np.array([1, 5])).columns["json.number"] == [1, None]
    assert blanked(batch, np.array([1])).columns["json.number"][:3] == [0, None, 2]
