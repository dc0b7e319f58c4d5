"""Means over a few runs, and differences between them, with 95 % intervals of Student's t.

When to use: figures of models that were trained alike with several seeds. With three seeds the interval is 4.3 standard
errors wide each way, not 2: what three runs only hint at is not shown. Where nothing differs, one of twenty such
intervals excludes 0 by chance, so that a report with six of them says a false word in one of six. Differences that are
reported together are therefore judged together: with m of them, each interval has the level 1 - 0.05 / m, and all of
them hold at once in 95 % of the reports, however the figures depend on each other. With three seeds and six
differences that is 10.9 standard errors; with five seeds 4.9.
Source: Student (1908); Welch (1947) where seeds are no pairs; Bonferroni's inequality, for intervals Dunn (1961).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import atan, cos, floor, log10, pi, sin, sqrt
from statistics import fmean, stdev, variance
from typing import NamedTuple

LEVEL = 0.95  # of an interval, and of all intervals of one report together
CORRECTION = "bonferroni"
_DIGITS, _MOST_DIGITS = 3, 12  # after the point, at least and at most


class Estimate(NamedTuple):
    """A mean and half the width of its interval; None from a single value, which tells nothing of its spread."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        digits = _digits(self.half)
        return f"{self.mean:.{digits}f}" + ("" if self.half is None else f" ± {self.half:.{digits}f}")


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
        """With as many digits as show on which side of 0 the interval ends."""
        digits = _digits(self.half)
        if self.half is None:
            return f"{self.mean:+.{digits}f}"
        mean, half = abs(self.mean), self.half
        while digits < _MOST_DIGITS and (mean > half) != (round(mean, digits) > round(half, digits)):
            digits += 1
        return f"{self.mean:+.{digits}f} ± {half:.{digits}f}"


def estimate(values: Sequence[float], comparisons: int = 1) -> Estimate:
    """The mean of n values and t s / sqrt(n), with n - 1 degrees of freedom; `comparisons`: as of `difference`."""
    n = len(values)
    return Estimate(fmean(values), student(n - 1, comparisons) * stdev(values) / sqrt(n) if n > 1 else None)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], comparisons: int = 1) -> Difference:
    """Ours minus theirs, by seed: of pairs where two seeds or more are in both, else Welch's. `comparisons`: how many
    differences, this one among them, are reported together; the interval is as much wider."""
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) > 1 or ours.keys() == theirs.keys():
        return Difference(*estimate([ours[seed] - theirs[seed] for seed in seeds], comparisons), paired=True)
    return _welch(list(ours.values()), list(theirs.values()), comparisons)


def _welch(ours: Sequence[float], theirs: Sequence[float], comparisons: int) -> Difference:
    mean = fmean(ours) - fmean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Difference(mean, None, paired=False)
    parts = [(variance(values) / len(values), len(values) - 1) for values in (ours, theirs)]
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / n for part, n in parts) if total else 1.0
    return Difference(mean, student(floor(freedom), comparisons) * sqrt(total), paired=False)


@lru_cache
def student(freedom: int, comparisons: int = 1) -> float:
    """The t that Student's variable stays within, either way, with a probability of 1 - 0.05 / comparisons."""
    outside = (1 - LEVEL) / comparisons
    low, high = 0.0, 1.0
    while _outside(high, freedom) > outside:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _outside(middle, freedom) > outside else (low, middle)
    return high


def _outside(t: float, freedom: int) -> float:
    """The probability that Student's variable is beyond t, either way, for a whole number of degrees of freedom.

    Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cos(angle) ** 2 * (k - 1) / k
    inside = sin(angle) * total
    return 1 - (2 / pi * (angle + inside) if odd else inside)


def _digits(half: float | None) -> int:
    """Digits after the point that give half an interval two that count."""
    return min(_MOST_DIGITS, max(_DIGITS, 1 - floor(log10(half)))) if half else _DIGITS


@dataclass(frozen=True)
class HitRate:
    """Hits among `total` trials with a 95 % interval, and what guessing would give."""

    rate: float
    low: float
    high: float
    total: int
    chance: float


def wilson(hits: int, total: int, chance: float, z: float = 1.96) -> HitRate:
    """Wilson's score interval (1927): holds its level at small counts and near 0 and 1, where +-2 sigma does not."""
    if total == 0:
        return HitRate(0.0, 0.0, 1.0, 0, chance)
    p = hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return HitRate(p, max(0.0, middle - half), min(1.0, middle + half), total, chance)
