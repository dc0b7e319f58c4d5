"""Means over a few runs, their differences, and hit rates, with 95 % intervals.

When to use: compare models that were trained alike with several seeds. With three seeds, an interval of Student's t
reaches 4.3 standard errors to each side instead of 2. If no arm differs, one of twenty such intervals still excludes 0
by chance, so that a report with six of them would contain a false claim in about one of six cases. Differences that
are reported together are therefore corrected together: each of m intervals has the level 1 - 0.05 / m, and all of them
hold at once in 95 % of the reports, however the figures depend on each other. With six differences, that is 10.9
standard errors for three seeds and 4.9 for five.
Source: Student (1908); Welch (1947) for unpaired seeds; Bonferroni's inequality, for intervals Dunn (1961); Wilson
(1927) for hit rates. scipy computes the quantiles. It is imported where a figure is computed (1 s), not by `curate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10, sqrt
from statistics import fmean, stdev, variance
from typing import NamedTuple

LEVEL = 0.95  # of an interval, and of all intervals of one report together
CORRECTION = "bonferroni"
Z = 1.96  # standard errors of Wilson's interval; 1.959964 would differ from the intervals in existing documents
_DIGITS, _MOST_DIGITS = 3, 12  # after the point, at least and at most


class Estimate(NamedTuple):
    """A mean and half the width of its interval; None for a single value, which says nothing about the spread."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        digits = _digits(self.half)
        return f"{self.mean:.{digits}f}" + ("" if self.half is None else f" ± {self.half:.{digits}f}")


class Difference(NamedTuple):
    """Ours minus theirs. `paired`: between runs with the same seed; otherwise between two independent sets of runs."""

    mean: float
    half: float | None
    paired: bool

    @property
    def word(self) -> str:
        """The verdict: `better`, `worse` or `no difference shown`.

        Differences that are all equal result from a coarse measure (few held-out samples) and show nothing either.
        """
        if not self.half or abs(self.mean) <= self.half:
            return "no difference shown"
        return "better" if self.mean > 0 else "worse"

    def __str__(self) -> str:
        """With enough digits to show on which side of 0 the interval ends."""
        digits = _digits(self.half)
        if self.half is None:
            return f"{self.mean:+.{digits}f}"
        mean, half = abs(self.mean), self.half
        while digits < _MOST_DIGITS and (mean > half) != (round(mean, digits) > round(half, digits)):
            digits += 1
        return f"{self.mean:+.{digits}f} ± {half:.{digits}f}"


def estimate(values: Sequence[float], comparisons: int = 1) -> Estimate:
    """Return the mean of n values with the interval t s / sqrt(n), of n - 1 degrees of freedom.

    `comparisons`: how many intervals, this one among them, are reported together; the interval widens accordingly.
    """
    n = len(values)
    return Estimate(fmean(values), student(n - 1, comparisons) * stdev(values) / sqrt(n) if n > 1 else None)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], comparisons: int = 1) -> Difference:
    """Return ours minus theirs, both by seed: paired where at least two seeds occur in both, else Welch's.

    `comparisons`: as in `estimate`.
    """
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
    if not total:
        return Difference(mean, 0.0, paired=False)
    # Welch and Satterthwaite; scipy's ttest_ind warns on stderr where one side has no spread.
    freedom = total**2 / sum(part**2 / n for part, n in parts) + 1e-9  # a sum may give 3.9999999999 for 4
    return Difference(mean, student(floor(freedom), comparisons) * sqrt(total), paired=False)  # down: never narrower


def student(freedom: int, comparisons: int = 1) -> float:
    """Return the t that bounds a two-sided interval of level 1 - 0.05 / `comparisons`, in standard errors."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, (1 - LEVEL) / comparisons / 2))


def _digits(half: float | None) -> int:
    """Return the digits after the point that give half an interval two significant ones."""
    return min(_MOST_DIGITS, max(_DIGITS, 1 - floor(log10(half)))) if half else _DIGITS


@dataclass(frozen=True)
class HitRate:
    """The share of hits among `total` trials with a 95 % interval, and the share that guessing would reach."""

    rate: float
    low: float
    high: float
    total: int
    chance: float


def wilson(hits: int, total: int, chance: float) -> HitRate:
    """Return the rate of hits with Wilson's score interval; [0, 1] without trials.

    Unlike +-2 standard errors, the interval keeps its level at small counts and near 0 and 1.
    """
    if total == 0:
        return HitRate(0.0, 0.0, 1.0, 0, chance)
    from scipy.special import ndtr
    from scipy.stats import binomtest

    found = binomtest(hits, total).proportion_ci(2 * ndtr(Z) - 1, method="wilson")
    return HitRate(hits / total, float(found.low), float(found.high), total, chance)
