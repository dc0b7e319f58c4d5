"""Settings that change over a run: a number, or a straight line between two numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from curation.core.ranges import check


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A straight line from `start` to `end`, constant from `until` (share of the run) on."""

    start: float
    end: float
    until: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name} is {value}: it is a finite number")
        if not 0 < self.until <= 1:
            raise ValueError(f"until is {self.until}: it is a share of the run, above 0 and at most 1")


Schedule = float | Ramp
MOST_GAIN, MOST_WEIGHT = 1e9, 1e6  # at a gain of 1e9 a difference of 1e-7, float32's last digit, decides alone


def value_at(schedule: Schedule, progress: float) -> float:
    """Return the value of a schedule at `progress`, the share of the run that is done, from 0 to 1."""
    if isinstance(schedule, Ramp):
        return schedule.start + (schedule.end - schedule.start) * min(1.0, progress / schedule.until)
    return float(schedule)


def is_constant(schedule: Schedule, value: float) -> bool:
    """Return whether a schedule has one value for the whole run."""
    return value_at(schedule, 0.0) == value_at(schedule, 1.0) == value


def check_gain(gain: Schedule) -> None:
    """Raise `ValueError` for a gain below 0, which prefers the worst candidates, or above `MOST_GAIN`.

    0 draws uniformly: a control. The limit of a large gain is `pick: top`.
    """
    why = "a negative gain prefers the lowest scores, 0 draws uniformly"
    _check_ends("gain", gain, why, most=MOST_GAIN)


def check_weights(**weights: Schedule) -> None:
    """Raise `ValueError` for a negative weight of a loss, and where all weights are 0 for the whole run."""
    for name, weight in weights.items():
        _check_ends(name, weight, "a negative weight prefers the samples that the loss is there to avoid",
                    most=MOST_WEIGHT)  # fmt: skip
    if all(is_constant(weight, 0) for weight in weights.values()):
        raise ValueError(f"{' and '.join(weights)} are both 0: there is nothing to choose by")


def _check_ends(name: str, schedule: Schedule, why: str, *, most: float) -> None:
    """Check the ends of a schedule; a straight line lies between them."""
    for end in (schedule.start, schedule.end) if isinstance(schedule, Ramp) else (schedule,):
        check(name, end, why, least=0, most=most)
