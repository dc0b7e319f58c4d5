"""Filters made of filters: all, any and not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brute_cuts import brute_size, brute_threshold, brute_top
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import Row, random_rows

from curation.filters import Filter
from curation.filters.algebra import AllOf, AnyOf, NotOf
from curation.filters.image_size import ImageSize
from curation.filters.semantic_duplicates import SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction


def brute_of(item: Any, rows: list[Row]) -> set[int]:
    brutes = {Threshold: brute_threshold, TopFraction: brute_top, ImageSize: brute_size}
    dropped = [brutes[type(part)](part, rows) for part in item.of]
    everything = {i for i, row in enumerate(rows) if row["reason"] is None}
    if isinstance(item, AnyOf):
        return set.intersection(*dropped)
    return set.union(*dropped) if isinstance(item, AllOf) else everything - set.union(*dropped)


@pytest.mark.slow
def test_two_of_a_kind_in_one_filter_do_not_share_what_they_prepare(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(200, 11)]
    some = [SemanticDuplicates(clusters=1, threshold=0.8), SemanticDuplicates(clusters=1, threshold=0.9999)]
    alone = [set(dropped(tmp_path, rows, item)) for item in some]
    assert alone[0] > alone[1]
    assert set(dropped(tmp_path, rows, AnyOf(of=tuple(some)))) == alone[1]
    assert set(dropped(tmp_path, rows, AllOf(of=tuple(some)))) == alone[0]


@pytest.mark.parametrize("item", items_of(AllOf, AnyOf, NotOf), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_of, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: AllOf(of=()),
        lambda: AnyOf(of=(SoftCap(column="cluster", cap=1),)),
        lambda: AnyOf(of=(SoftCapSampling(score="s"),)),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
