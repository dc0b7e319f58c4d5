"""Drawing a sub-batch from scores, and settings that change over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from curation.core.ranges import check


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A number that goes in a straight line from `start` to `end`, and stays there from `until` (share of the run)."""

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


def at(schedule: Schedule, progress: float) -> float:
    """The value of a schedule when `progress` (0 to 1) of the run is done."""
    if isinstance(schedule, Ramp):
        return schedule.start + (schedule.end - schedule.start) * min(1.0, progress / schedule.until)
    return float(schedule)


def always(schedule: Schedule, value: float) -> bool:
    """Whether a schedule has one value all along."""
    return at(schedule, 0.0) == at(schedule, 1.0) == value


def check_gain(gain: Schedule) -> None:
    """Raises `ValueError` for a gain below 0, which prefers the worst candidates, or beyond `MOST_GAIN`.

    0 draws uniformly: a control. The limit of a large gain is `pick: top`.
    """
    why = "a negative gain prefers what scores worst, 0 draws uniformly"
    _check_ends("gain", gain, why, most=MOST_GAIN)


def check_weights(**weights: Schedule) -> None:
    """Raises `ValueError` for weights of losses below 0, which would prefer what they are there to avoid, and where
    there is none."""
    for name, weight in weights.items():
        _check_ends(name, weight, "a negative weight prefers what the loss is there to avoid", most=MOST_WEIGHT)
    if all(always(weight, 0) for weight in weights.values()):
        raise ValueError(f"{' and '.join(weights)} are both 0: there is nothing to choose by")


def _check_ends(name: str, schedule: Schedule, why: str, *, most: float) -> None:
    """A straight line lies between its ends."""
    for end in (schedule.start, schedule.end) if isinstance(schedule, Ramp) else (schedule,):
        check(name, end, why, least=0, most=most)


def draw(logits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` different rows, one after the other with probability softmax(logits) of the rows left; ascending.

    Drawing without replacement from a softmax is taking the top of logits + Gumbel noise, in one go.
    Source: 2312.05328, section 3; Kool et al. 2019 (1903.06059), section 2.
    """
    return top(logits + gumbel(len(logits), generator), size)


def top(scores: Tensor, size: int) -> Tensor:
    """The `size` rows with the highest scores, of equal ones the first; ascending. RHO-LOSS chooses like this."""
    check_size(size, len(scores))
    order = torch.sort(scores.double().cpu(), descending=True, stable=True).indices
    return order[:size].sort().values


def check_size(size: int, candidates: int) -> None:
    """Raises `ValueError` for a sub-batch that is larger than its super-batch."""
    if not 0 <= size <= candidates:
        raise ValueError(f"{size} of {candidates} candidates can't be chosen")


def gumbel(count: int, generator: torch.Generator) -> Tensor:
    """float64 `[count]` on the CPU, whatever the device of the scores: every machine draws the same noise."""
    return -torch.log(-torch.log(torch.rand(count, dtype=torch.float64, generator=generator).clamp_min(1e-300)))
