"""One bad read is not damage: what is wrong is read again before a sample or a shard is quarantined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from broken_s3 import BrokenS3
from builders import FLAWS, write_shard

from curation.core.errors import ImageError, StoreError
from curation.core.types import ShardRef
from curation.shards import confirm_damage
from curation.shards import unit_reader as units
from curation.shards.confirm_damage import SURE, SecondRead
from curation.shards.tar_samples import read_samples
from curation.shards.unit_reader import UnitReader
from curation.storage.store import Store, StoreOptions, open_store

SHARD = "in/a.tar"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BrokenS3, Store, bytes]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    write_shard(tmp_path / "a.tar", 1, 24)
    data = (tmp_path / "a.tar").read_bytes()
    with BrokenS3() as server:
        server.objects["/bucket/in/a.tar"] = data
        yield server, open_store("s3://bucket", StoreOptions(endpoint=server.endpoint, patience=5)), data


def rows(store: Store) -> list[dict[str, Any]]:
    info = store.head(SHARD)
    reader = UnitReader(store)
    return [row for table in reader.read(ShardRef(SHARD, info.size, info.etag)) for row in table.to_pylist()]


def flips(server: BrokenS3, at: int, times: int, bodies: list[int]) -> None:
    """Flip byte `at` of the shard in the first `times` bodies that hold it; `bodies` counts all of them."""

    def trouble(method: str, path: str) -> str:
        if method != "GET" or "a.tar" not in path:
            return ""
        bodies.append(1)
        return f"flip {at}" if len(bodies) <= times else ""

    server.trouble = trouble


def reads(server: BrokenS3) -> int:
    return sum(method == "GET" for method, _ in server.requests)


def test_damage_that_is_there_costs_one_read_a_unit(served: tuple[BrokenS3, Store, bytes]) -> None:
    server, store, _ = served
    found = rows(store)
    assert {row["row"]: row["reason"] for row in found if row["reason"]} == FLAWS
    assert len(set(FLAWS.values()) - SURE) > 1 and reads(server) == 1 + 1


def test_damage_of_later_tables_is_believed_until_a_read_brings_other_bytes(
    served: tuple[BrokenS3, Store, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, store, data = served
    monkeypatch.setattr(units, "ROWS_PER_TABLE", 4)
    assert {row["row"]: row["reason"] for row in rows(store) if row["reason"]} == FLAWS
    assert reads(server) == 1 + 1
    samples = list(read_samples([data], len(data)))
    first = next(row for row in FLAWS if FLAWS[row] not in SURE)
    assert first > 0 and samples[0].reason is None
    text = next(part for part in samples[0].parts if part.extension == "txt")
    flips(server, text.offset, 1, [])
    server.requests.clear()
    assert {row["row"]: row["reason"] for row in rows(store) if row["reason"]} == FLAWS
    assert reads(server) == 1 + 2 + 1  # the second and third read of sample 0, and one of the next table with damage


@pytest.mark.parametrize("reason", ["image_format", "image_too_many_bytes", "image_too_many_pixels", "missing_text"])
def test_what_names_headers_and_limits_say_is_read_once(
    served: tuple[BrokenS3, Store, bytes], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    server, store, _ = served

    def fail(data: bytes, limits: object) -> None:
        raise ImageError(reason)

    monkeypatch.setattr(units, "inspect", fail)
    info = store.head(SHARD)
    found = pa.concat_tables(UnitReader(store).read(ShardRef(SHARD, info.size, info.etag)))
    assert reason in found["reason"].to_pylist() and reads(server) <= 1 + 1  # the flaws of captions


def test_damage_far_apart_is_read_as_far_as_one_read_reaches(
    served: tuple[BrokenS3, Store, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, store, data = served
    damaged = [sample for sample in read_samples([data], len(data)) if not sample.reason]
    again = SecondRead(store, ShardRef(SHARD, len(data), ""))
    monkeypatch.setattr(confirm_damage, "SPAN", 1)
    for position, sample in enumerate(damaged):
        again.add(position, sample)
    assert list(again.settle()) == [] and reads(server) == 1
    again.add(0, damaged[1])
    assert list(again.settle()) == [] and reads(server) == 1, "the unit is believed"
    apart = SecondRead(store, ShardRef(SHARD, len(data), ""))
    monkeypatch.setattr(confirm_damage, "GAP_BYTES", -1)
    apart.add(0, damaged[0])
    assert list(apart.settle()) == [] and reads(server) == 1 + len(damaged[0].parts)


@pytest.mark.parametrize("extension", ["png", "json", "txt"])
def test_a_flipped_body_is_not_a_damaged_sample(served: tuple[BrokenS3, Store, bytes], extension: str) -> None:
    server, store, data = served
    good = rows(store)
    sample = list(read_samples([data], len(data)))[3]
    part = next(part for part in sample.parts if part.extension == extension)
    assert sample.reason is None and good[3]["reason"] is None
    at = part.offset if extension != "png" else part.offset + part.length // 2
    flips(server, at, 1, [])
    assert rows(store) == good


@pytest.mark.parametrize("times", [1, 2])
def test_a_flipped_header_is_not_a_damaged_shard(served: tuple[BrokenS3, Store, bytes], times: int) -> None:
    server, store, data = served
    good = rows(store)
    at = list(read_samples([data], len(data)))[5].start + 100
    flips(server, at, times, [])
    if times == 1:
        with pytest.raises(StoreError, match="differ"):
            rows(store)
        assert rows(store) == good  # the next pass
    else:  # twice the same: it is what the store has
        assert rows(store)[-1]["reason"] == "tar_bad_header"


def test_a_page_of_a_proxy_is_not_an_empty_shard(served: tuple[BrokenS3, Store, bytes]) -> None:
    server, store, _ = served
    good = rows(store)
    bodies: list[int] = []
    flips(server, 0, 1, bodies)  # no tar by its first byte
    with pytest.raises(StoreError):
        rows(store)
    assert rows(store) == good


def test_reads_that_never_agree_are_the_stores_fault(served: tuple[BrokenS3, Store, bytes]) -> None:
    server, store, data = served
    sample = list(read_samples([data], len(data)))[3]
    part = next(part for part in sample.parts if part.extension == "txt")
    count: list[int] = []

    def trouble(method: str, path: str) -> str:
        if method != "GET" or "a.tar" not in path:
            return ""
        count.append(1)
        return f"flip {part.offset + len(count) % 5}"

    server.trouble = trouble
    with pytest.raises(StoreError, match="three reads"):
        rows(store)
