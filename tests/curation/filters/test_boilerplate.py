"""Filter `boilerplate`: captions that many samples share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filters_given import SIZES, expect_equal_to, items_of
from rows_given import Row

from curation.filters import Filter
from curation.filters.boilerplate import Boilerplate


def brute_boilerplate(item: Boilerplate, rows: list[Row]) -> set[int]:
    told = {i: " ".join(row["caption"].lower().split()) for i, row in enumerate(rows) if row["reason"] is None}
    often = Counter(told.values())
    return {i for i, words in told.items() if words and often[words] > item.most}


@pytest.mark.parametrize("item", items_of(Boilerplate), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_boilerplate, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Boilerplate(most=0),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
