"""Filter `image_size`: limits of sides and aspect ratio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brute_cuts import brute_size
from filters_given import SIZES, expect_equal_to, items_of

from curation.filters import Filter
from curation.filters.image_size import ImageSize


@pytest.mark.parametrize("item", items_of(ImageSize), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_size, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ImageSize(max_aspect=0.5),
        lambda: ImageSize(max_aspect=float("nan")),
        lambda: ImageSize(max_aspect=float("inf")),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
