"""Filter `exact_duplicates`: equal bytes, or equal pairs of image and caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import Row, random_rows

from curation.filters import Filter
from curation.filters.exact_duplicates import ExactDuplicates


def brute_duplicates(item: ExactDuplicates, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    seen: set[Any] = set()
    out = set()
    for i in alive:
        key = (rows[i]["content_hash"], rows[i]["caption"] if item.of == "pair" else None)
        if key in seen:
            out.add(i)
        seen.add(key)
    return out


@pytest.mark.parametrize("item", items_of(ExactDuplicates), ids=repr)
@pytest.mark.parametrize("n", [0, 1, 300])
def test_exact_in_parts(item: Filter, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that don't fit in memory are sorted on disk: the same duplicates."""
    monkeypatch.setattr("curation.filters.sorted_values.IN_MEMORY", -1)
    expect_equal_to(brute_duplicates, item, n, tmp_path)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("item", [ExactDuplicates(), ExactDuplicates(of="pair", prefer="score")])
def test_samples_whose_hashes_collide_are_no_duplicates(
    item: ExactDuplicates, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.filters.sorted_values.IN_MEMORY", 1000 if fits else -1)
    monkeypatch.setattr("curation.filters.exact_duplicates._hash", lambda *names: f"(hash({', '.join(names)}) % 3)")
    expect_equal_to(brute_duplicates, item, 400, tmp_path)


def test_samples_without_a_caption_are_no_equal_pairs(tmp_path: Path) -> None:
    rows = [{**row, "caption": None, "content_hash": "same", "reason": None} for row in random_rows(9, 10)]
    assert dropped(tmp_path, rows, ExactDuplicates(of="pair")) == {}
    assert set(dropped(tmp_path, rows, ExactDuplicates())) == set(range(1, 9))


@pytest.mark.parametrize("item", items_of(ExactDuplicates), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_duplicates, item, n, tmp_path)
