"""Filter `mentions`: captions that mention a phrase."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brute_balancing import brute_mentions
from filters_given import SIZES, expect_equal_to, items_of

from curation.filters import Filter
from curation.filters.mentions import Mentions


@pytest.mark.parametrize("item", items_of(Mentions), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_mentions, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Mentions(),
        lambda: Mentions(entries=("", " ")),
        lambda: Mentions(entries=("a",), url="list.txt", sha256="0" * 64),
        lambda: Mentions(url="list.txt"),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
