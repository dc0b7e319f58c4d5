"""How units are dealt to actors, and what these take from a scorer.

That units are scored, whatever dies: tests/jobs and tests/faults, with Ray.
"""

from __future__ import annotations

from math import log

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.isolation import as_numpy, as_rows, blamed
from actors.scoring import CALLS_PER_ACTOR, MOST_UNITS, units_per_call
from curation.errors import ConservationError, UserError, WeightsError
from curation.scores import value_array


@given(units=st.integers(1, 20_000), actors=st.integers(1, 64))
def test_calls_are_large_first_and_single_units_last(units: int, actors: int) -> None:
    calls, left = [], units
    while left:
        calls.append(units_per_call(left, actors))
        left -= calls[-1]
    assert left == 0 and max(calls) <= MOST_UNITS
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == 1
    deal = CALLS_PER_ACTOR * actors
    assert len(calls) <= units / MOST_UNITS + deal * (2 + log(MOST_UNITS)) + 1  # few, beside those that must be


def test_what_a_scorer_gives_is_values_of_a_batch() -> None:
    for good in (np.zeros(3), torch.zeros(3), pa.array(["a"])):
        assert len(as_rows("mine", good)) in (1, 3)
    with pytest.raises(UserError, match="scorer mine gives a list"):
        as_rows("mine", ["a", "b"])


def test_what_goes_wrong_in_a_scorer_is_one_line_that_names_it() -> None:
    with (
        pytest.raises(
            UserError, match=r"scorer mine fails: ZeroDivisionError: division by zero \(.*test_scoring.py:\d+"
        ),
        blamed("mine"),
    ):
        print(1 / 0)
    with pytest.raises(WeightsError, match="scorer mine: vectors of another encoder") as error, blamed("mine"):
        raise WeightsError("vectors of another encoder", fix="make others")
    assert error.value.fix == "make others"
    for said in ("scorer mine gives a list", "bad data"):
        with pytest.raises(UserError, match=f"^scorer mine:? {said.removeprefix('scorer mine ')}$"), blamed("mine"):
            raise UserError(said)
    with pytest.raises(UserError, match=r"^scorer a: bad data$"), blamed("a"):  # whatever letters are in it
        raise UserError("bad data")
    with pytest.raises(ConservationError, match=r"^counts$"), blamed("mine"):
        raise ConservationError("counts")
    assert as_rows("mine", torch.ones(2, requires_grad=True) * 2).tolist() == [2, 2]


def test_tensors_of_whole_numbers_stay_what_they_are() -> None:
    for numbers in (torch.tensor([2**62 + 12345, 5]), torch.tensor([2**24 + 1, 5], dtype=torch.float64)):
        found = value_array(as_numpy(numbers), np.array([True, False]), pa.int64())
        assert found.to_pylist() == [int(numbers[0]), None]
    halves = torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
    assert value_array(as_numpy(halves), np.ones(2, bool), pa.float32()).to_pylist() == [0.5, 2.0]
