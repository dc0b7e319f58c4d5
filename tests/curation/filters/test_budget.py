"""Filter `budget`: at most so many samples or bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filters_given import SIZES, expect_equal_to, items_of
from rows_given import Row

from curation.filters import Filter
from curation.filters.budget import Budget


def brute_budget(item: Budget, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    alive.sort(key=lambda i: (-rows[i]["score"] if item.score else 0, rows[i]["uid"]))
    out, spent = set(), 1024 if item.bytes is not None else 0  # the end of the one shard
    for i in alive:
        spent += rows[i]["length"] if item.bytes is not None else 1
        if spent > (item.bytes or item.samples or 0):
            out.add(i)
    return out


@pytest.mark.parametrize("item", items_of(Budget), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_budget, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Budget(),
        lambda: Budget(samples=1, bytes=1),
        lambda: Budget(samples=0),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
