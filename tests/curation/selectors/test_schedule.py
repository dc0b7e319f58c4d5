"""Schedules of gains and weights."""

from __future__ import annotations

import pytest

from curation.selectors.schedule import Ramp, value_at


def test_schedules() -> None:
    ramp = Ramp(start=2, end=10, until=0.5)
    assert [value_at(ramp, progress) for progress in (0, 0.25, 0.5, 1)] == [2, 6, 10, 10]
    assert value_at(3, 0.7) == 3
    with pytest.raises(ValueError, match="share of the run"):
        Ramp(start=0, end=1, until=0)


def test_a_ramp_has_two_numbers() -> None:
    for start, end in ((float("nan"), 1.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="it is a finite number"):
            Ramp(start=start, end=end)
