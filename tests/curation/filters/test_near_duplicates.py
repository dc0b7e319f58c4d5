"""Of near duplicates in order, the first stays, and there are no chains; blank pictures match nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import Row, alike, random_rows, table

from curation.core.errors import RecipeError
from curation.curating import decision_results
from curation.curating.decisions import Decisions
from curation.filters import Filter
from curation.filters.named import NamedFilter, columns_needed
from curation.filters.near_duplicates import NearDuplicates
from curation.scorers.phash import phash


def decided(tmp: Path, rows: list[Row], item: NearDuplicates) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """(row -> uid of what it leaves for, of what leaves; groups)."""
    named = [NamedFilter("near", item)]
    index, scores = columns_needed(named)
    kinds = {name: pa.int64() if name == "phash" else pa.float32() for name in scores}
    with Decisions(tmp, index, kinds) as engine:
        engine.load([(0, table(rows).select(["row", "uid", "reason", *index, *scores]))])
        engine.decide([])
        item.prepare(engine.db)
        copies = f"SELECT p.row, s.uid FROM ({item.copies()}) c JOIN pool p USING (id) JOIN pool s ON s.id = c.stays"
        leaves = dict(engine.db.execute(copies).fetchall())
        engine.clear()
        engine.decide(named)
        return leaves, [group.to_json() for group in decision_results.duplicate_groups(engine)]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("item", [NearDuplicates(distance=5), NearDuplicates(distance=3, prefer="score")])
def test_everything_that_leaves_looks_like_the_first_that_stays(
    item: NearDuplicates, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr("curation.filters.sorted_values.IN_MEMORY", 1)
    rows = [{**row, "reason": None} for row in random_rows(400, 5)]
    leaves, groups = decided(tmp_path, rows, item)
    at = {row["uid"]: number for number, row in enumerate(rows)}
    order = sorted(range(400), key=lambda i: (-rows[i]["score"], rows[i]["uid"]) if item.prefer else i)
    place = {row: n for n, row in enumerate(order)}
    assert 100 < len(leaves) < 400
    for row, uid in leaves.items():
        one, other = rows[row], rows[at[uid]]
        assert at[uid] not in leaves and place[at[uid]] < place[row]
        blank = not one["phash"] and not other["phash"]
        assert one["content_hash"] == other["content_hash"] if blank else alike(one, other, item.distance)
    sizes: dict[str, int] = {}
    for uid in leaves.values():
        sizes[uid] = sizes.get(uid, 1) + 1
    assert [group["samples"] for group in groups] == sorted(sizes.values(), reverse=True)[:10]
    for group in groups:
        assert sizes[group["stays"]] == group["samples"] and group["filter"] == "near"
        assert group["goes"] == [rows[row]["uid"] for row in sorted(leaves) if leaves[row] == group["stays"]][:6]


def test_blank_pictures_are_copies_of_their_own_bytes_alone(tmp_path: Path) -> None:
    """All of 60 blank pictures with different bytes stay, and one of two with the same bytes."""
    rows = [
        {**row, "reason": None, "phash": 0, "content_hash": f"{n % 59}"} for n, row in enumerate(random_rows(60, 1))
    ]
    leaves, _ = decided(tmp_path, rows, NearDuplicates(distance=12))
    assert leaves == {59: rows[0]["uid"]}
    usual = 0x0F0F0F0F0F0F0F0F
    near = [*rows, *({**row, "phash": usual ^ 1 << bit} for bit, row in enumerate(random_rows(3, 2)))]
    near = [{**row, "uid": f"{n:032x}", "reason": None} for n, row in enumerate(near)]
    leaves, _ = decided(tmp_path, near, NearDuplicates(distance=2))
    assert set(leaves) == {59, 61, 62}, "they are near each other, and near no blank one"


def test_a_chain_of_small_changes_is_not_dropped_to_its_first_link(tmp_path: Path) -> None:
    """Each differs from the one before in three bits: within the distance of its neighbours only."""
    hashes = np.bitwise_xor.accumulate([np.uint64(0xFFFFFFFF << 32), *(np.uint64(7 << (3 * n)) for n in range(10))])
    rows = [
        {**row, "reason": None, "phash": int(value.astype(np.int64))}
        for row, value in zip(random_rows(11, 3), hashes, strict=True)
    ]
    leaves, _ = decided(tmp_path, rows, NearDuplicates(distance=4))
    assert set(leaves) == set(range(1, 11, 2))


def test_symmetric_drawings_are_told_apart(tmp_path: Path) -> None:
    """A minus, a plus and two arrows, whose hashes have few bits set; and each of them larger."""
    views = [cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) for side in (96, 160) for one in drawings(side)]
    hashes = phash(np.stack(views)[..., None].repeat(3, -1)).tolist()
    assert max(int(value % 2**64).bit_count() for value in hashes) < 24
    rows = [{**row, "reason": None, "phash": value} for row, value in zip(random_rows(8, 4), hashes, strict=True)]
    leaves, _ = decided(tmp_path, rows, NearDuplicates())
    assert leaves == {4 + n: rows[n]["uid"] for n in range(4)}


def drawings(side: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Black on white, each its own mirror image."""
    y, x = np.abs((np.mgrid[:side, :side] + 0.5) / side - 0.5)
    down = np.broadcast_to((np.arange(side)[:, None] + 0.5) / side, (side, side))
    arrow = (x < (down - 0.2) / 2) & (down < 0.8)
    minus, plus = (y < 1 / 16) & (x < 3 / 8), ((y < 1 / 16) & (x < 3 / 8)) | ((x < 1 / 16) & (y < 3 / 8))
    return [np.where(ink, 0, 255).astype(np.uint8) for ink in (minus, plus, arrow, arrow[::-1])]


def copies(one: Row, other: Row, distance: int) -> bool:
    """The rule of `near_duplicates`: a blank picture is near its own bytes only."""
    blank = not one["phash"] and not other["phash"]
    return one["content_hash"] == other["content_hash"] if blank else alike(one, other, distance)


def brute_near(item: NearDuplicates, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    stay: list[int] = []
    for i in alive:
        if not any(copies(rows[i], rows[j], item.distance) for j in stay):
            stay.append(i)
    return set(alive) - set(stay)


@pytest.mark.parametrize("item", items_of(NearDuplicates), ids=repr)
@pytest.mark.parametrize("n", [0, 1, 300])
def test_near_in_parts(item: Filter, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that don't fit in memory are sorted on disk: the same duplicates."""
    monkeypatch.setattr("curation.filters.sorted_values.IN_MEMORY", -1)
    expect_equal_to(brute_near, item, n, tmp_path)


def test_a_column_of_another_kind_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="filter near_duplicates can't read its columns"):
        dropped(tmp_path, random_rows(5, 9), NearDuplicates(hash="score"))


@pytest.mark.parametrize("item", items_of(NearDuplicates), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_near, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: NearDuplicates(distance=13),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
