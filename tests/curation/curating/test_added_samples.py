"""Marked shards: pinned once, and known by every key that a corpus gives them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
from edits_given import edits, replaced
from labelled import write_labelled

from curation.curating.added_samples import AddedGroup, MarkedShard, _keys, added_groups, added_units, pin_shards
from curation.shards.images import DecodeLimits


def test_a_shard_is_pinned_once_and_known_by_every_key(tmp_path: Path) -> None:
    assert _keys("s3://bucket/a/b/0.tar") == ["0.tar", "b/0.tar", "a/b/0.tar"]
    assert _keys("/a/0.tar") == ["0.tar", "a/0.tar"]
    write_labelled(tmp_path / "m", ["cat"])
    name = f"{tmp_path}/m/0.tar"
    (pin,) = pin_shards(edits(("a" * 32, "add", None, name), ("b" * 32, "add", None, name)), None)
    assert pin.url == name and pin.reason is None and pin.size == Path(name).stat().st_size


def groups_of(rows: list[tuple[Any, ...]], etag: str = "e", most: int = 10) -> list[AddedGroup]:
    shards = [MarkedShard(name, f"/m/{name}", 1024, etag, None) for name in ("0.tar", "1.tar")]
    units = added_units(edits(*rows), shards)
    return list(added_groups(units, most, {"score": pa.float32()}, "", DecodeLimits(), None))


def test_everything_that_decides_the_output_is_in_the_name_of_a_group() -> None:
    rows: list[tuple[Any, ...]] = [("a" * 32, "add", None, "0.tar"), ("b" * 32, "add", None, "1.tar")]
    (group,) = groups_of(rows)
    assert pickle.loads(pickle.dumps(group)).id == group.id == groups_of(rows[::-1])[0].id  # noqa: S301
    more = [("a" * 32, "drop"), ("a" * 32, "weight", None, "2"), replaced("a" * 32, "label", "1")]
    others = [groups_of([*rows, row])[0].id for row in more] + [groups_of(rows, etag="f")[0].id]
    assert len({group.id, *others}) == 5
    assert [[unit.rows.num_rows for unit in one.units] for one in groups_of(rows, most=1)] == [[1], [1]]
