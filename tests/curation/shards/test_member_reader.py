"""Members of many samples of a shard: the right bytes from few requests, also where members are scattered."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tar_archives import archive

from curation.core.types import ShardRef
from curation.shards import member_reader
from curation.shards.member_reader import MemberReader, SampleRanges
from curation.shards.tar_samples import read_samples
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.store import Store, open_store

MEMBERS = [(f"s{n:03d}.{ext}", f"{n} {ext} ".encode() * (n + 1)) for n in range(40) for ext in ("jpg", "txt")]
SCATTERED = [item for ext in ("jpg", "txt") for item in MEMBERS if item[0].endswith(ext)]


class Counting:
    """A store that counts its ranged reads."""

    def __init__(self, store: Store) -> None:
        self.store, self.ranges, self.copies = store, list[tuple[int, int]](), 0

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        self.ranges.append((start, length))
        return self.store.get_range(key, start, length, etag)

    def blocks(self, key: str, size: int, etag: str | None = None) -> Any:
        self.copies += 1
        return self.store.blocks(key, size, etag)


def reader(root: Path, members: list[tuple[str, bytes]]) -> tuple[MemberReader, Counting, list[list[bytes]]]:
    """A reader of a shard of these members, its store, and the members of each row."""
    data = archive(members)
    store = open_store(str(root))
    store.put("0.tar", data)
    samples = list(read_samples([data], len(data)))
    index = [
        {
            "offset": sample.start,
            "length": sample.stop - sample.start,
            "members": [
                {name: getattr(part, name) for name in ("extension", "offset", "length")} for part in sample.parts
            ],
        }
        for sample in samples
    ]
    schema = pa.schema([INDEX_SCHEMA.field(name) for name in ("offset", "length", "members")])
    ranges = SampleRanges.of_index(pa.Table.from_pylist(index, schema))
    counting = Counting(store)
    shard = ShardRef("0.tar", len(data), store.head("0.tar").etag)
    wanted = [[part.data for part in sample.parts] for sample in samples]
    return MemberReader(counting, shard, ranges), counting, wanted  # type: ignore[arg-type]


def found_in(reader: MemberReader, rows: Iterable[int]) -> list[list[bytes]]:
    """The members' data of each of these samples."""
    chosen, found = np.array(list(rows), np.int64), list[list[bytes]]()
    for batch in reader.read(chosen):
        assert not (batch.positions % 512).any()
        positions = iter(batch.positions.tolist())
        for row in chosen[batch.start : batch.stop].tolist():
            first, last = reader.ranges.first[row : row + 2]
            lengths = reader.ranges.member_lengths[first:last].tolist()
            found.append([batch.data[(at := next(positions)) : at + length] for length in lengths])
    return found


@pytest.mark.parametrize("rows", [[], [0], [39], [3, 4, 5, 30], list(range(40))])
def test_neighbours_share_a_request(rows: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, store, wanted = reader(tmp_path, MEMBERS)
    monkeypatch.setattr(member_reader, "GAP_BYTES", 1000)
    assert found_in(found, rows) == [wanted[row] for row in rows]
    runs = bool(rows) + sum(later - row > 1 for row, later in pairwise(rows))
    assert len(store.ranges) == runs and store.copies == 0


def test_a_request_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, store, wanted = reader(tmp_path, MEMBERS)
    monkeypatch.setattr(member_reader, "READ_BYTES", 10_000)
    assert found_in(found, range(40)) == wanted
    assert len(store.ranges) > 3
    assert max(length for _, length in store.ranges) <= 10_000 + found.ranges.lengths.max()


def test_scattered_members_are_read_from_one_copy(tmp_path: Path) -> None:
    found, store, wanted = reader(tmp_path, SCATTERED)
    assert found.is_interleaved
    for _ in range(2):
        assert found_in(found, range(40)) == wanted
    assert store.copies == 1 and store.ranges == []
    found.close()
