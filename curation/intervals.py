"""Means over a few runs, and differences between them, with 95 % intervals of Student's t.

When to use: figures of models that were trained alike with several seeds. With three seeds the interval is 4.3 standard
errors wide each way, not 2: what three runs only hint at is not shown. Each interval is one comparison: where nothing
differs, one of twenty shows a difference by chance. Source: Student (1908); Welch (1947) where seeds are no pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, sqrt
from statistics import fmean, stdev, variance
from typing import NamedTuple

# 97.5 % quantiles by degrees of freedom, from 1.
_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
_NORMAL = 1.959964


class Estimate(NamedTuple):
    """A mean and half the width of its interval; None from a single value, which tells nothing of its spread."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.half is None else f"{self.mean:.3f} ± {self.half:.3f}"


class Difference(NamedTuple):
    """Ours minus theirs. `paired`: of runs with the same seed; else of two independent sets of runs."""

    mean: float
    half: float | None
    paired: bool

    @property
    def word(self) -> str:
        """What it shows: `better`, `worse` or `no difference shown`.

        Differences that are all equal come of a coarse measure (few held-out samples), and show nothing either.
        """
        if not self.half or abs(self.mean) <= self.half:
            return "no difference shown"
        return "better" if self.mean > 0 else "worse"

    def __str__(self) -> str:
        return f"{self.mean:+.3f}" if self.half is None else f"{self.mean:+.3f} ± {self.half:.3f}"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n values and t s / sqrt(n), with n - 1 degrees of freedom."""
    n = len(values)
    return Estimate(fmean(values), student(n - 1) * stdev(values) / sqrt(n) if n > 1 else None)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Ours minus theirs, by seed: of pairs where two seeds or more are in both, else Welch's."""
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) > 1 or ours.keys() == theirs.keys():
        return Difference(*estimate([ours[seed] - theirs[seed] for seed in seeds]), paired=True)
    return _welch(list(ours.values()), list(theirs.values()))


def _welch(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    mean = fmean(ours) - fmean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Difference(mean, None, paired=False)
    parts = [(variance(values) / len(values), len(values) - 1) for values in (ours, theirs)]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / n for part, n in parts) if total else 1.0
    return Difference(mean, student(floor(freedom)) * sqrt(total), paired=False)


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table by its expansion in 1 / freedom (to 1e-4)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z, v = _NORMAL, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
