"""Whether groups of failures are types: the model is tuned on each alone, and judged on held-out failures of all.

A_ij is the accuracy on held-out failures of group j after tuning on group i.

    Learnability = mean over i of A_ii            Independence = mean over i != j of A_ii - A_ij

Source: 2109.12347, section 3.2. Both say nothing for groups from both sides of a decision (false positives and false
negatives): tuning on one side moves the decision, and the other side gets worse. Groups of one side alone are compared.

Two groups are no types of their own where tuning on one repairs the other: their mean of A_ii - A_ij and A_jj - A_ji is
below `INDEPENDENT`. Such groups are merged, the least independent pair first, and the result is measured again.
Intervals are those of the held-out failures that were drawn (bootstrap, each group resampled); another seed of the
tuning is another source of spread, which they don't show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from statistics import fmean
from typing import NamedTuple

import numpy as np

INDEPENDENT = 0.1  # of a pair's independence: the least of two types
DRAWS = 1000  # of the bootstrap
LEVEL = 95  # per cent of an interval


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one side: the uids that the model is tuned on, and held-out ones, which never take part in that."""

    name: str
    members: tuple[str, ...]
    held_out: tuple[str, ...]

    def join(self, other: FailureGroup) -> FailureGroup:
        """Return both groups as one; its name is `2+3`."""
        members, held_out = (*self.members, *other.members), (*self.held_out, *other.held_out)
        return FailureGroup(f"{self.name}+{other.name}", tuple(sorted(members)), tuple(sorted(held_out)))


class TunedRow(NamedTuple):
    """What the model got right after it was tuned on one group: uids of held-out failures, and the cost.

    kept: the share of a separate draw of samples, right before, that stayed right. stopped: whether that share ended
    the tuning.
    """

    right: frozenset[str]
    kept: float
    stopped: bool
    steps: int
    seconds: float


class Merge(NamedTuple):
    """Two groups that were no types of their own, and the independence of the pair."""

    one: str
    other: str
    independence: float


Rows = Mapping[str, TunedRow]  # by the group's name
Interval = tuple[float, float]


def accuracy(row: TunedRow, group: FailureGroup) -> float | None:
    """Return A_ij of one row; None without held-out failures."""
    return fmean(uid in row.right for uid in group.held_out) if group.held_out else None


def matrix(groups: Sequence[FailureGroup], rows: Rows) -> list[list[float | None]]:
    """Return A, a row for each group that was tuned on."""
    return [[accuracy(rows[one.name], other) for other in groups] for one in groups]


def learnability(found: Sequence[Sequence[float | None]]) -> float | None:
    """Return the mean of the A_ii that were measured; None without any."""
    own = [row[place] for place, row in enumerate(found)]
    known = [value for value in own if value is not None]
    return fmean(known) if known else None


def independence(found: Sequence[Sequence[float | None]]) -> float | None:
    """Return the mean of A_ii - A_ij over the i != j that were measured; None without any."""
    gaps = []
    for one, other in permutations(range(len(found)), 2):
        own, theirs = found[one][one], found[one][other]
        if own is not None and theirs is not None:
            gaps.append(own - theirs)
    return fmean(gaps) if gaps else None


def intervals(
    groups: Sequence[FailureGroup], rows: Rows, seed: int = 0
) -> tuple[Interval | None, Interval | None]:  # fmt: skip
    """Return 95 % intervals of learnability and independence; None for what was not measured."""
    random = np.random.default_rng(seed)
    judged = [np.array([[uid in rows[one.name].right for uid in other.held_out] for one in groups]) for other in groups]
    drawn: list[list[list[float | None]]] = []
    for _ in range(DRAWS):
        columns: list[Sequence[float | None]] = []
        for right in judged:  # [groups, held-out failures of one group]
            size = right.shape[1]
            columns.append(right[:, random.integers(0, size, size)].mean(1).tolist() if size else [None] * len(groups))
        drawn.append([list(row) for row in zip(*columns, strict=True)])
    return _interval([learnability(one) for one in drawn]), _interval([independence(one) for one in drawn])


def _interval(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    tails = ((100 - LEVEL) / 2, (100 + LEVEL) / 2)
    return (float(np.percentile(known, tails[0])), float(np.percentile(known, tails[1]))) if known else None


def merge_dependent(
    groups: Sequence[FailureGroup], measure: Callable[[FailureGroup], TunedRow]
) -> tuple[list[FailureGroup], dict[str, TunedRow], list[Merge]]:
    """Measure groups of one side, and merge those that are no types until all pairs are independent or one is left.

    measure: tunes on a group; called once a group, merged ones included. A pair without held-out failures on either
    side is not compared, and stays.
    """
    left, merges = list(groups), list[Merge]()
    rows = {group.name: measure(group) for group in left}
    while pairs := [(value, a, b) for a, b in combinations(left, 2) if (value := _of_pair(a, b, rows)) is not None]:
        value, one, other = min(pairs, key=lambda pair: (pair[0], pair[1].name, pair[2].name))
        if value >= INDEPENDENT:
            break
        merges.append(Merge(one.name, other.name, value))
        both = one.join(other)
        left = [both if group is one else group for group in left if group is not other]
        rows[both.name] = measure(both)
    return left, rows, merges


def _of_pair(one: FailureGroup, other: FailureGroup, rows: Rows) -> float | None:
    return independence(matrix([one, other], rows))
