"""Bars of `make bench-diagnosis`: a figure with what it has to reach, as a row of a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from curation.core.intervals import estimate

QUICK = "TUTELAGE_BENCH_QUICK"  # variable that is set for a quick run


class Bar(NamedTuple):
    """A figure with the bar it has to reach."""

    title: str
    figure: str
    met: bool

    def __str__(self) -> str:
        return f"| {self.title} | {self.figure} | {'met' if self.met else 'not met'} |"


def table(bars: Iterable[Bar]) -> list[str]:
    """Return the lines of a table of bars, and an empty line."""
    return ["| bar | figure, mean over seeds | |", "|---|---|---|", *map(str, bars), ""]


def spread(values: Sequence[float], digits: int = 2, *, lowest: bool = True) -> str:
    """Return a mean with its 95 % interval, and the worst seed: the lowest, or the highest."""
    found = estimate(values)
    text = f"{found.mean:.{digits}f}" + ("" if found.half is None else f" ± {found.half:.{digits}f}")
    worst = min(values) if lowest else max(values)
    return text if len(values) < 2 else f"{text}, worst seed {worst:.{digits}f}"


def is_quick() -> bool:
    """Whether this is a quick run: one seed, small scale."""
    return bool(os.environ.get(QUICK))
