"""Filter `soft_cap`: frequent groups are thinned, and weights make up for what leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from balanced_rows import decided, decided_by, kept, loaded, rows_of
from brute_balancing import brute_soft_cap, shares
from filters_given import SIZES, expect_equal_to, items_of

from curation.filters import Filter
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.soft_cap import SoftCap


@pytest.mark.parametrize("item", items_of(SoftCap), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_soft_cap, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: SoftCap(column="cluster", cap=0),
        lambda: SoftCap(column="cluster", cap=1, alpha=1),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()


def test_other_samples_change_no_draw(tmp_path: Path) -> None:
    """Twice as many samples of other clusters: those of this one stay or leave as before, in any order."""
    rows = rows_of(300)
    more = [{**row, "uid": row["uid"][::-1], "cluster": row["cluster"] + 100} for row in rows]
    for item in (SoftCap(column="cluster", cap=9), ClusterBalance(column="cluster", most=9)):
        alone, among = decided(tmp_path, rows, item), decided(tmp_path, [*more, *rows], item)
        assert [row["decision"] for row in alone] == [row["decision"] for row in among[len(more) :]]


@pytest.mark.slow
def test_soft_cap_weights_make_up_for_what_leaves(tmp_path: Path) -> None:
    rows, seeds = rows_of(200), 60
    soft = SoftCap(column="cluster", cap=5, alpha=0.3)
    wanted = shares(soft, rows)
    totals = []
    with loaded(tmp_path, rows, soft) as engine:
        for seed in range(seeds):
            found = decided_by(engine, replace(soft, seed=seed))
            for i in kept(found):
                assert found[i]["weight"] == pytest.approx(1 / wanted[i], rel=1e-6)
            assert all(row["weight"] == 0 for row in found if row["decision"] != "kept")
            totals.append(sum(row["weight"] for row in found))
    error = sum(1 / share - 1 for share in wanted.values()) ** 0.5  # of one total: Horvitz-Thompson's variance
    assert abs(np.mean(totals) - len(wanted)) < 4 * error / seeds**0.5
    plain = decided(tmp_path, rows, SoftCap(column="cluster", cap=5, weights=False))
    assert {row["weight"] for row in plain} == {0, 1}


@pytest.mark.slow
def test_weights_are_multiplied_a_lists_hold_and_what_the_keep_list_keeps_weighs_one(tmp_path: Path) -> None:
    rows = [row for row in rows_of(300) if not row["reason"]]
    one = SoftCap(column="cluster", cap=20, seed=1)
    two = ClusterBalance(column="cluster", most=50), SoftCap(column="cluster", cap=10, seed=2)
    alone = decided(tmp_path, rows, one)
    both = decided(tmp_path, rows, one, *two)
    assert kept(both) < kept(alone)
    weighed = max(kept(both), key=lambda i: both[i]["weight"])
    assert both[weighed]["weight"] > alone[weighed]["weight"] > 1
    uids = pa.array([row["uid"] for row in rows])
    listed = pa.table({"uid": uids, "weight": pa.array(np.full(len(rows), 3), pa.float32())})
    threes = decided(tmp_path, rows, one, *two, weights=listed)
    assert [row["weight"] for row in threes] == [3 if row["weight"] else 0 for row in both]
    gone = next(i for i, row in enumerate(both) if not row["weight"])
    sure = decided(tmp_path, rows, one, *two, keep=pa.array([rows[weighed]["uid"], rows[gone]["uid"]]))
    assert sure[weighed]["weight"] == sure[gone]["weight"] == 1
