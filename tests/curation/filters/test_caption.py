"""Filter `caption`: limits of words, characters and repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brute_cuts import brute_caption
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import random_rows

from curation.filters import Filter
from curation.filters.caption import Caption


def test_characters_are_counted_without_white_space_of_any_kind_around(tmp_path: Path) -> None:
    captions = ["a b c\t\t\t", "\u3000a b c  ", "a b c d"]
    rows = [
        {**row, "reason": None, "caption": caption} for row, caption in zip(random_rows(3, 1), captions, strict=True)
    ]
    assert set(dropped(tmp_path, rows, Caption(min_chars=6))) == {0, 1}


@pytest.mark.parametrize("item", items_of(Caption), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_caption, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Caption(max_repetition=2),
        lambda: Caption(min_words=3, max_words=2),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
