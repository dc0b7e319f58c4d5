"""How units are dealt to actors. That they are scored, whatever dies: tests/jobs and tests/faults, with Ray."""

from __future__ import annotations

from math import log

from hypothesis import given
from hypothesis import strategies as st

from actors.scoring import CALLS_PER_ACTOR, MOST_UNITS, units_per_call


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
