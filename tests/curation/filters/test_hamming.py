"""Pairs of hashes that differ in few bits: sorting finds the same ones as comparing each with each."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import one_in

from curation.filters import hamming, hash_neighbours, mask_bits
from curation.filters.covering import BITS
from curation.filters.hamming import pairs_between, pairs_within
from curation.filters.hash_sets import Hashes, InMemory, OnDisk
from curation.filters.mask_bits import Array, TopBits, signed

ALL = 2**BITS - 1
HASHES = st.integers(0, ALL)


def hashes(values: list[int] | set[int]) -> Array:
    return np.array(sorted(values), np.uint64)


def on_disk(db: duckdb.DuckDBPyConnection, values: Array) -> OnDisk:
    db.register("incoming", pa.table({"h": values.view(np.int64)}))
    db.execute("CREATE OR REPLACE TABLE hashes AS SELECT h FROM incoming")
    return OnDisk(db, "hashes")


def found(source: Hashes, distance: int) -> list[tuple[int, int]]:
    """Every pair that is yielded, the lesser hash first."""
    out = [sorted(pair) for a, b in pairs_within(source, distance) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    return sorted((a, b) for a, b in out)


def brute(values: Array, distance: int) -> list[tuple[int, int]]:
    numbers = values.tolist()
    return [(a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :] if (a ^ b).bit_count() <= distance]


def flipped(rng: np.random.Generator, values: Array, most: int) -> Array:
    """Each with up to `most` bits changed, any of 64."""
    times = rng.integers(0, most + 1, len(values))
    for n in range(most):
        bits = np.uint64(1) << rng.integers(0, BITS, len(values)).astype(np.uint64)
        values = np.where(n < times, values ^ bits, values)
    return values


@given(HASHES, st.lists(HASHES, min_size=1, max_size=20))
def test_bits_that_are_moved_to_the_top_come_back(mask: int, values: list[int]) -> None:
    """Two values agree in the mask exactly if they do at the top, and differ in as many bits as before."""
    top, given_ = TopBits(mask), np.array(values, np.uint64)
    moved = top.moved(given_)
    assert top.back(moved).tolist() == values
    assert top.bits == ALL - (ALL >> mask.bit_count())
    for value, there in zip(values, moved.tolist(), strict=True):
        assert (value ^ values[0]).bit_count() == (there ^ int(moved[0])).bit_count()
        assert ((value ^ values[0]) & mask == 0) == ((there ^ int(moved[0])) & top.bits == 0)


@pytest.mark.slow
@pytest.mark.parametrize("distance", [0, 1, 4, 12])
@pytest.mark.parametrize("batch", one_in(2, [1, 3, 64, 1 << 15]))
def test_pairs_are_those_of_comparing_each_with_each_once(
    distance: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and on disk. Groups cross the borders of the batches, and pairs those of the yielded batches."""
    monkeypatch.setattr(mask_bits, "BATCH", batch)
    monkeypatch.setattr(hash_neighbours, "PAIRS", 7)
    monkeypatch.setattr("curation.filters.vectors.ROWS", batch)
    rng = np.random.default_rng(batch)
    some = rng.integers(0, 2**64 - 1, 60, np.uint64)
    values = np.unique(np.concatenate([flipped(rng, some, 3) for _ in range(5)]))
    wanted = brute(values, distance) if distance else []
    assert bool(wanted) == bool(distance)
    assert found(InMemory(values), distance) == wanted
    with duckdb.connect() as db:
        assert found(on_disk(db, values), distance) == wanted


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.sets(st.one_of(HASHES, st.integers(0, 300), st.integers(ALL - 99, ALL)), max_size=50), st.integers(1, 12))
def test_any_hashes_are_compared_as_by_brute_force(values: set[int], distance: int) -> None:
    """The sets include none, one, and many hashes of which most agree in most masks."""
    assert found(InMemory(hashes(values)), distance) == brute(hashes(values), distance)


def test_hashes_that_differ_in_the_sign_alone_are_a_pair() -> None:
    values = hashes({5, 5 | 1 << 63, 1 << 63, ALL, ALL >> 1})
    wanted = [(5, 5 | 1 << 63), (ALL >> 1, ALL)]
    assert found(InMemory(values), 1) == wanted
    with duckdb.connect() as db:
        assert found(on_disk(db, values), 1) == wanted
    assert [signed(mask) for mask in (ALL, 1 << 63, 1)] == [-1, -(2**63), 1]


def test_a_group_of_many_among_hashes_that_agree_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows to compare are selected from a batch if they are a small part of it."""
    monkeypatch.setattr(mask_bits, "BATCH", 256)
    rng = np.random.default_rng(0)
    flat = np.uint64(0xABCDEF << 40) | rng.integers(0, 1 << 20, 90, np.uint64)
    values = np.unique(np.concatenate([rng.integers(0, 2**64 - 1, 900, np.uint64), flat]))
    wanted = brute(values, 6)
    assert wanted and found(InMemory(values), 6) == wanted


@pytest.mark.parametrize("fit", [0, 1 << 25])
@pytest.mark.parametrize("distance", [0, 4])
def test_pairs_between_two_sides_some_of_whose_hashes_are_the_same(
    distance: int, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and on disk: each pair once, on whichever side the lesser hash is, and repeated hashes as one."""
    monkeypatch.setattr(hamming, "IN_MEMORY", fit)
    rng = np.random.default_rng(1)
    some = rng.integers(0, 2**64 - 1, 60, np.uint64)
    ours, theirs = (np.concatenate([flipped(rng, some, 3) for _ in range(3)]) for _ in range(2))
    wanted = {(a, b) for a in ours.tolist() for b in theirs.tolist() if (a ^ b).bit_count() <= distance}
    assert any(a < b for a, b in wanted) == any(a > b for a, b in wanted) == bool(distance)
    assert any(a == b for a, b in wanted)
    with duckdb.connect() as db:
        queries = []
        for name, values in (("ours", ours), ("theirs", theirs), ("none", ours[:0])):
            db.register("incoming", pa.table({"h": values.view(np.int64)}))
            db.execute(f"CREATE TABLE {name} AS SELECT h FROM incoming")
            queries.append(f"SELECT h FROM {name}")
        a, b, none = queries
        out = [pair for x, y in pairs_between(db, a, b, distance) for pair in zip(x.tolist(), y.tolist(), strict=True)]
        assert sorted(out) == sorted(wanted)
        assert sum(len(x) for x, _ in pairs_between(db, a, none, distance)) == 0
