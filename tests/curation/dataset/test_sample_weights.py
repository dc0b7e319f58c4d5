"""Weights: what a sample weighs is how often training meets it, in the mean and nearly so in every epoch."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dataset.sample_weights import ALIKE, SampleWeights, weighted_order
from curation.selection.pool import generator_of

WEIGHTS = st.lists(st.floats(0, 100), min_size=1, max_size=50).filter(lambda values: sum(values) > 1e-6)


@settings(max_examples=60)
@given(WEIGHTS, st.integers(0, 9))
def test_each_as_often_as_it_weighs_rounded_down_or_up(values: list[float], epoch: int) -> None:
    weights = torch.tensor(values, dtype=torch.float64)
    rows = weighted_order(weights, generator_of("epoch", epoch))
    assert len(rows) == len(values)
    wanted = len(values) * weights / weights.sum()
    assert bool(((torch.bincount(rows, minlength=len(values)) - wanted).abs() < 1 + 1e-6).all())


def test_over_epochs_exactly_as_often() -> None:
    weights = torch.tensor([0.25, 1.0, 2.0, 0.75], dtype=torch.float64)
    rows = torch.cat([weighted_order(weights, generator_of(epoch)) for epoch in range(2000)])
    torch.testing.assert_close(torch.bincount(rows).double() / 2000, weights, rtol=0, atol=0.05)


def test_in_a_stream_as_well() -> None:
    weights = SampleWeights({"a": 3.0, "b": 0.5, "c": 0.5}, samples=4)
    assert weights.mean == (3 + 0.5 + 0.5 + 1) / 4
    for uid, weight in (("a", 3.0), ("b", 0.5), ("d", 1.0)):
        times = [weights.times(uid, 0, epoch) for epoch in range(2000)]
        assert sum(times) / 2000 == pytest.approx(weight / 1.25, abs=0.05)
        assert max(times) - min(times) <= 1


def test_each_by_the_mean_of_its_snapshot() -> None:
    weights = SampleWeights({"a": 2.0, "b": 4.0}, 3)
    found = weights.of(["c", "a", "b"])
    assert found.tolist() == pytest.approx([3 / 7, 6 / 7, 12 / 7])
    assert not ALIKE and ALIKE.of(["a"]).tolist() == [1.0] and weights.sha256 != SampleWeights({"a": 2.0}, 3).sha256


def test_copies_are_apart() -> None:
    weights = torch.ones(200, dtype=torch.float64)
    weights[:5] = 20.0
    rows = weighted_order(weights, generator_of("apart")).tolist()
    for row in range(5):
        places = [place for place, other in enumerate(rows) if other == row]
        assert len(places) in (13, 14) and min(after - before for before, after in pairwise(places)) > 200 / 14 / 2


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, float("inf")], [1.0, float("nan")]])
def test_weights_that_are_none(values: list[float]) -> None:
    with pytest.raises(ValueError, match="the sum of the weights is"):
        weighted_order(torch.tensor(values, dtype=torch.float64), generator_of(0))
