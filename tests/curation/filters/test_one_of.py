"""Filter `one_of`: samples by a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filters_given import SIZES, expect_equal_to, items_of
from rows_given import Row

from curation.filters import Filter
from curation.filters.one_of import OneOf


def brute_one_of(item: OneOf, rows: list[Row]) -> set[int]:
    return {i for i, row in enumerate(rows) if (row["format"] in item.values) != item.keep}


@pytest.mark.parametrize("item", items_of(OneOf), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_one_of, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: OneOf(column="format", values=()),
        lambda: OneOf(column="format", values=("jpg",)),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
