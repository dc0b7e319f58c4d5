"""Filter `metaclip_balance`: the probability with which it keeps a sample, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from balanced_rows import ENTRIES, decided, decided_by, kept, loaded, rows_of
from brute_balancing import brute_metaclip, chances
from filters_given import SIZES, expect_equal_to, items_of

from curation.core.errors import RecipeError
from curation.curating.decisions import Decisions
from curation.filters import Filter
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.named import NamedFilter


def test_too_little_memory_is_one_line_that_says_so(tmp_path: Path) -> None:
    rows = [(n, f"{n:032x}", None, "a b " * 9999) for n in range(60)]
    columns = dict(zip(("row", "uid", "reason", "caption"), map(list, zip(*rows, strict=True)), strict=True))
    given = pa.table({**columns, "row": pa.array(columns["row"], pa.int32()), "reason": pa.nulls(60, pa.string())})
    with Decisions(tmp_path, ["caption"], {}, memory="20MB") as engine:
        engine.load([(0, given)])
        with pytest.raises(RecipeError, match=r"filter b needs more memory than compute\.memory, 20MB"):
            engine.decide([NamedFilter("b", MetaclipBalance(entries=("a b",), t=1))])


@pytest.mark.parametrize("item", items_of(MetaclipBalance), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_metaclip, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: MetaclipBalance(entries=("a",), t=0),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()


@pytest.mark.slow
def test_metaclip_keeps_each_sample_with_its_probability(tmp_path: Path) -> None:
    rows, seeds = rows_of(150), 120
    balance = MetaclipBalance(entries=ENTRIES, t=4)
    wanted = chances(balance, rows)
    times = dict.fromkeys(range(len(rows)), 0)
    with loaded(tmp_path, rows, balance) as engine:
        for seed in range(seeds):
            for i in kept(decided_by(engine, replace(balance, seed=seed))):
                times[i] += 1
    for i, share in wanted.items():
        assert abs(times[i] / seeds - share) <= 4.5 * (share * (1 - share) / seeds) ** 0.5
    assert sum(0 < share < 1 for share in wanted.values()) > 20


@pytest.mark.slow
def test_a_larger_t_keeps_all_that_a_smaller_one_did(tmp_path: Path) -> None:
    rows = rows_of(400)
    sizes = [kept(decided(tmp_path, rows, MetaclipBalance(entries=ENTRIES, t=t))) for t in (1, 5, 30, 1000)]
    assert all(few < many for few, many in pairwise(sizes))
    reasons = {row["reason"] for row in decided(tmp_path, rows, MetaclipBalance(entries=ENTRIES, t=1))}
    assert reasons == {None, "f0.no_match", "f0.capped", "image_corrupt"}
