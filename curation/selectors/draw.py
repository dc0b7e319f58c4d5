"""Drawing a sub-batch from scores, and settings that change over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A number that goes in a straight line from `start` to `end`, and stays there from `until` (share of the run)."""

    start: float
    end: float
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"until is {self.until}: it is a share of the run, above 0 and at most 1")


Schedule = float | Ramp


def at(schedule: Schedule, progress: float) -> float:
    """The value of a schedule when `progress` (0 to 1) of the run is done."""
    if isinstance(schedule, Ramp):
        return schedule.start + (schedule.end - schedule.start) * min(1.0, progress / schedule.until)
    return float(schedule)


def always(schedule: Schedule, value: float) -> bool:
    """Whether a schedule has one value all along."""
    return at(schedule, 0.0) == at(schedule, 1.0) == value


def check_schedules(**schedules: Schedule) -> None:
    """Raises `ValueError` for one that is no number at one of its ends: what is compared with it is not in order."""
    for name, schedule in schedules.items():
        if not all(math.isfinite(at(schedule, progress)) for progress in (0.0, 1.0)):
            raise ValueError(f"{name} is {schedule}: it is a finite number, or goes from one to another")


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
