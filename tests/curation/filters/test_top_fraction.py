"""Filter `top_fraction`: an exact cut, whatever the ties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brute_cuts import brute_top
from filters_given import SIZES, dropped, expect_equal_to, items_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows_given import random_rows

from curation.filters import Filter
from curation.filters.image_size import ImageSize
from curation.filters.top_fraction import TopFraction


def test_top_fraction_counts_those_that_reach_it(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(300, 2)]
    found = dropped(tmp_path, rows, ImageSize(min_side=100), TopFraction(score="score", fraction=0.5))
    reached = 300 - sum(reason == "image_size.min_side" for reason in found.values())
    assert 300 - len(found) == (reached + 1) // 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_a_score_that_is_no_number_is_quarantined(value: float | None, tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(20, 4)]
    rows[7]["score"] = value
    assert dropped(tmp_path, rows, TopFraction(score="score", fraction=1.0)) == {7: "score_not_finite"}


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0.0, 0.5, -0.25, 1.0]), max_size=60), st.integers(1, 1000))
def test_top_fraction_is_exact_for_any_ties(tmp_path: Path, values: list[float], thousandths: int) -> None:
    rows = [{**row, "score": v, "reason": None} for row, v in zip(random_rows(len(values), 5), values, strict=True)]
    item = TopFraction(score="score", fraction=thousandths / 1000)
    assert set(dropped(tmp_path, rows, item)) == brute_top(item, rows)


@pytest.mark.parametrize("item", items_of(TopFraction), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_top, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: TopFraction(score="s", fraction=0),
        lambda: TopFraction(score="s", fraction=1.5),
        lambda: TopFraction(score="s", fraction=1e-40),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
