"""Reading a unit: every sample is a row, every flaw a reason, every unit has its end row."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from builders import FLAWS, members, write_shard

from curation.core.types import ShardRef, uid
from curation.shards import contents
from curation.shards.images import DecodeLimits, Preprocess, decode
from curation.shards.unit_reader import UnitReader, failure_table, pixels
from curation.storage.store import open_store

VIEW = Preprocess(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), mode="shortest")


def read(folder: Path, name: str, **options: object) -> list[dict[str, object]]:
    store = open_store(str(folder))
    info = store.head(name)
    reader = UnitReader(store, **options)  # type: ignore[arg-type]
    return [row for table in reader.read(ShardRef(name, info.size, info.etag)) for row in table.to_pylist()]


@pytest.mark.slow
def test_rows_reasons_and_the_end_row(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", 1, 300)  # more than one table
    *rows, end = read(tmp_path, "a.tar")
    assert (end["end"], end["row"], end["reason"]) == (True, 300, None)
    assert [row["row"] for row in rows] == list(range(300))
    assert {row["row"]: row["reason"] for row in rows if row["reason"]} == FLAWS
    etag = open_store(str(tmp_path)).head("a.tar").etag
    originals = dict(members(1, 300))
    raw = (tmp_path / "a.tar").read_bytes()
    for row in rows:
        assert row["uid"] == uid("a.tar", etag, row["offset"])  # type: ignore[arg-type]
        for member in row["members"]:  # type: ignore[attr-defined]
            data = raw[member["offset"] : member["offset"] + member["length"]]
            assert data == originals[f"{row['key']}.{member['extension']}"]
        if row["reason"] is None:
            names = (f"{row['key']}.{extension}" for extension in ("png", "jpg", "webp"))
            image = next(originals[name] for name in names if name in originals)
            assert row["content_hash"] == sha256(image).hexdigest()[:32]
            assert (row["width"], row["height"]) == (72, 80)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "tar_empty"),
        (bytes(1024), "tar_empty"),
        (b"<html>" + b" " * 2000, "tar_not_a_tar"),
        (b"\x1f\x8b" * 600, "tar_not_a_tar"),
    ],
)
def test_what_is_no_tar_is_still_a_row(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    (end,) = read(tmp_path, "a.tar")
    assert (end["end"], end["row"], end["reason"]) == (True, 0, reason)


@pytest.mark.slow
def test_every_cut_is_told(tmp_path: Path) -> None:
    write_shard(tmp_path / "whole.tar", 2, 6, flaws=False)
    whole = (tmp_path / "whole.tar").read_bytes()
    for cut in range(0, len(whole), 512):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        *_, end = read(tmp_path, "cut.tar")
        assert str(end["reason"]).startswith("tar_"), cut


def test_pixels_are_those_of_decode(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", 1, 9, flaws=False)
    store = open_store(str(tmp_path))
    info = store.head("a.tar")
    (table,) = UnitReader(store, views=(VIEW,)).read(ShardRef("a.tar", info.size, info.etag))
    stack = pixels(table, VIEW)
    assert stack.shape == (10, 32, 32, 3)
    images = [data for name, data in members(1, 9, flaws=False) if not name.endswith((".txt", ".json"))]
    for found, image in zip(stack, images, strict=False):
        assert np.array_equal(found, decode(image, DecodeLimits(), 32))
    assert not stack[9].any()
    assert np.array_equal(pixels(table.slice(3, 2), VIEW), stack[3:5])


def test_limits_apply_before_decode(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", 1, 3, flaws=False)
    rows = read(tmp_path, "a.tar", limits=DecodeLimits(max_pixels=1000))
    assert {row["reason"] for row in rows[:-1]} == {"image_too_many_pixels"}
    rows = read(tmp_path, "a.tar", limits=DecodeLimits(formats=("jpeg",)))
    assert [row["reason"] for row in rows[:-1]] == ["image_format", None, "image_format"]


BAD_JSON = [b"[]", b"1", b"{", b"", b"\xff{}", b'{"a":' * 100_000, json.dumps({"a": 1}).encode("utf-16")]


@pytest.mark.parametrize("data", BAD_JSON, ids=lambda data: repr(data[:12]))
def test_bad_json(data: bytes) -> None:
    from curation.core.errors import ImageError

    with pytest.raises(ImageError):
        contents.metadata(data)


def test_a_failed_unit_says_so() -> None:
    (row,) = failure_table(ShardRef("a.tar", 1, "e"), "no network", (VIEW,)).to_pylist()
    assert (row["end"], row["row"], row["reason"]) == (True, -1, "no network")


def test_fields_of_the_json_are_columns_beside_an_unchanged_index(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", 1, 30)
    plain, with_fields = read(tmp_path, "a.tar"), read(tmp_path, "a.tar", fields=("name", "number", "absent"))
    for row, more in zip(plain, with_fields, strict=True):
        number, name, absent = more.pop("json.number"), more.pop("json.name"), more.pop("json.absent")
        assert more == row and absent is None
        usable = row["reason"] is None and not row["end"]
        assert number == (json.dumps(row["row"]) if usable else None)
        assert name == (f'"thing-{row["row"] % 7}"' if usable else None)  # type: ignore[operator]
    (failed,) = failure_table(ShardRef("a.tar", 1, ""), "no", (), ("name",)).to_pylist()
    assert failed["json.name"] is None, "tables of one call have the same columns"
