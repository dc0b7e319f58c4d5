"""Filter `cluster_balance`: at most so many of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from brute_balancing import brute_cluster
from filters_given import SIZES, expect_equal_to, items_of

from curation.filters import Filter
from curation.filters.cluster_balance import ClusterBalance


@pytest.mark.parametrize("item", items_of(ClusterBalance), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_cluster, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ClusterBalance(column="cluster", most=0),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
