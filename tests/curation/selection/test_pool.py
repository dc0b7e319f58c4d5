"""Candidates: uniform, each sample once an epoch, and the place goes on where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.errors import EmptyCorpusError
from curation.models.batches import Examples
from curation.selection.pool import Pool, generator_of
from curation.selection.pool_blocks import PoolPosition


def pool(count: int, seed: int = 0, weights: torch.Tensor | None = None) -> Pool:
    names = [str(i) for i in range(count)]
    examples = Examples(np.zeros((count, 4, 4, 3), np.uint8), names, names, [""] * count)
    examples.pixels[:, 0, 0, 0] = range(count)
    return Pool.of(
        examples, lambda captions: torch.tensor([[int(caption)] for caption in captions]), seed, weights=weights
    )


def test_uniform_over_epochs_and_pairs_stay_together() -> None:
    batches = pool(10).batches(3)
    seen = torch.zeros(10)
    for _ in range(40):
        epoch = [next(batches) for _ in range(3)]
        rows = torch.cat([batch.targets[:, 0] for batch in epoch])
        assert len(rows.unique()) == 9
        assert torch.equal(rows, torch.cat([batch.pixels[:, 0, 0, 0] for batch in epoch]).long())
        seen += torch.bincount(rows, minlength=10)
    assert seen.min() > 25


@pytest.mark.slow
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.data())
@settings(max_examples=60)
def test_no_candidate_twice_in_an_epoch_and_a_place_goes_on(sizes: list[int], data: st.DataObject) -> None:
    whole, cut = pool(10, seed=3), data.draw(st.integers(0, len(sizes)))
    drawn: dict[int, list[int]] = {}
    stopped = None
    for number, size in enumerate(sizes):
        if number == cut:
            stopped = pool(10, seed=3)
            stopped.place = whole.place
        rows = whole.draw(size).rows
        assert len(rows) == min(size, 10)
        drawn.setdefault(whole.place.epoch, []).extend(rows.tolist())
        if stopped is not None:
            assert torch.equal(stopped.draw(size).rows, rows)
    assert all(len(rows) == len(set(rows)) for rows in drawn.values())


def test_an_epoch_has_samples_as_often_as_they_weigh() -> None:
    weighed = pool(6, weights=torch.tensor([0.0, 0.5, 0.5, 1.0, 1.0, 3.0], dtype=torch.float64))
    epochs = [torch.bincount(weighed.draw(6).rows, minlength=6) for _ in range(200)]
    assert all(counts.sum() == 6 and counts[[0, 3, 4, 5]].tolist() == [0, 1, 1, 3] for counts in epochs)
    assert 60 < sum(int(counts[1]) for counts in epochs) < 140
    orders = {tuple(weighed.rows_at(PoolPosition(epoch), 6).tolist()) for epoch in range(9)}
    assert len(orders) > 5


def test_seeds() -> None:
    assert torch.equal(pool(50, 1).draw(9).rows, pool(50, 1).draw(9).rows)
    assert not torch.equal(pool(50, 1).draw(9).rows, pool(50, 2).draw(9).rows)
    first, second = (torch.rand(3, generator=generator_of("a", 1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(3, generator=generator_of("a1")))


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(EmptyCorpusError, match="no samples"):
        pool(0)
