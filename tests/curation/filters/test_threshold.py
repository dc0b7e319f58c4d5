"""Filter `threshold`: limits in the precision of the column that it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from brute_cuts import brute_threshold
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import random_rows

from curation.filters import Filter
from curation.filters.threshold import Threshold


def test_limits_of_whole_numbers_are_what_they_are(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "length": 16_777_216 + i} for i, row in enumerate(random_rows(4, 1))]
    assert set(dropped(tmp_path, rows, Threshold(score="length", min=16_777_217))) == {0}
    assert set(dropped(tmp_path, rows, Threshold(score="length", max=16_777_217))) == {2, 3}


def test_a_limit_that_was_read_off_a_float32_score_means_that_score(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "score": np.float32(0.1)} for row in random_rows(3, 1)]
    assert not dropped(tmp_path, rows, Threshold(score="score", min=0.1))
    assert not dropped(tmp_path, rows, Threshold(score="score", max=0.1))


@pytest.mark.parametrize("item", items_of(Threshold), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_threshold, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Threshold(score="s"),
        lambda: Threshold(score="s", min=1e39),
        lambda: Threshold(score="s", max=float("nan")),
        lambda: Threshold(score="s", min=5, max=1),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
