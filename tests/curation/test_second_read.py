"""One bad read is not damage: what is wrong is read again before a sample or a shard is quarantined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import FLAWS, write_shard
from services import BrokenS3

from curation.data import ShardRef
from curation.errors import StoreError
from curation.store import Store, StoreOptions, open_store
from curation.tar import read_samples
from curation.units import UnitReader

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


def test_damage_that_is_there_costs_a_read_a_sample(served: tuple[BrokenS3, Store, bytes]) -> None:
    server, store, _ = served
    found = rows(store)
    assert {row["row"]: row["reason"] for row in found if row["reason"]} == FLAWS
    read = [key for method, key in server.requests if method == "GET"]
    assert len(read) == 1 + len(FLAWS) - 1  # a missing caption is not looked for twice


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
