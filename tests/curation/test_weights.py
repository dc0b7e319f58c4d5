"""Weights: what a sample weighs is how often training meets it, in the mean and nearly so in every epoch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pool import generator_of
from curation.weights import Weights, spread

WEIGHTS = st.lists(st.floats(0, 100), min_size=1, max_size=50).filter(lambda values: sum(values) > 1e-6)


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(0, 9))
def test_each_as_often_as_it_weighs_rounded_down_or_up(values: list[float], epoch: int) -> None:
    weights = torch.tensor(values, dtype=torch.float64)
    rows = spread(weights, generator_of("epoch", epoch))
    assert len(rows) == len(values)
    wanted = len(values) * weights / weights.sum()
    assert bool(((torch.bincount(rows, minlength=len(values)) - wanted).abs() < 1 + 1e-6).all())


def test_over_epochs_exactly_as_often() -> None:
    weights = torch.tensor([0.25, 1.0, 2.0, 0.75], dtype=torch.float64)
    rows = torch.cat([spread(weights, generator_of(epoch)) for epoch in range(2000)])
    torch.testing.assert_close(torch.bincount(rows).double() / 2000, weights, rtol=0, atol=0.05)


def test_in_a_stream_as_well() -> None:
    weights = Weights({"a": 3.0, "b": 0.5, "c": 0.5}, samples=4)
    assert weights.mean == (3 + 0.5 + 0.5 + 1) / 4
    for uid, weight in (("a", 3.0), ("b", 0.5), ("d", 1.0)):
        times = [weights.times(uid, 0, epoch) for epoch in range(2000)]
        assert sum(times) / 2000 == pytest.approx(weight / 1.25, abs=0.05)
        assert max(times) - min(times) <= 1


def test_none_where_all_weigh_the_same() -> None:
    weights = Weights.joined([Weights({"a": 2.0}, 2), Weights({}, 3), Weights({"b": 2.0}, 1)])
    assert weights.samples == 6 and weights.own == {"a": 2.0, "b": 2.0}
    assert weights.of(["a", "b"]) is None and weights.of(["c", "d"]) is None
    found = weights.of(["c", "a"])
    assert found is not None and found.tolist() == [1.0, 2.0]
    assert not Weights() and weights.sha256 != Weights({"a": 2.0}).sha256
