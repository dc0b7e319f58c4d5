"""Correct labels against answers: how many labels of a queue are correct after each answer, where the truth is known.

The label of an item is the one that `curate review apply` would write: the class that is strictly ahead, else the
current label. Answers count in the order of their times; those without a time, such as of annotators, come first, in
rank order, which is the order in which `rounds` asks. An answer that was taken back is left out. Memory: 13 bytes an
answer, and 30 while they are sorted.

Random order, for comparison: items of the same queue in a random order, answered in the same way. Its expectation is a
straight line, up to one item's answers, since items are settled one after the other:

    slope = sum_s N_s gain_s / sum_s N_s cost_s

with N_s items in stratum s (the current label is right, is wrong, or its truth is unknown), and the mean gain in
correct labels and the mean number of answers of those that have any. Where all items have answers, that is the measured
total. Otherwise it assumes that a stratum's items cost and gain the same at every rank; a stratum in which no item has
an answer leaves it undefined.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any, Literal, NamedTuple

import numpy as np

from curation.review.status import ItemState
from curation.review.votes import ItemVotes

MOST_POINTS = 200  # of a curve
Order = Literal["rank", "time", "rank, then time"]
Stratum = Literal["right", "wrong", "unknown"]
Places = np.ndarray[Any, np.dtype[np.int64]]


class CurvePoint(NamedTuple):
    """The number of correct labels after a number of answers, and the one expected of random order, if defined."""

    answers: int
    correct: int
    random: float | None


@dataclass(frozen=True, kw_only=True)
class AnswerCurve:
    """Correct labels among the `known` items whose truth is known, from 0 answers to all; at most `MOST_POINTS` points.

    slope: labels that an answer corrects in random order, in expectation; None where it is not defined.
    """

    known: int
    order: Order
    slope: float | None
    points: Sequence[CurvePoint]


@dataclass
class CurveSums:
    """What a curve is computed from, item by item."""

    current_votes: int
    times: array[float] = field(default_factory=lambda: array("d"))
    gains: array[int] = field(default_factory=lambda: array("b"))
    of_items: array[int] = field(default_factory=lambda: array("i"))
    items: Counter[Stratum] = field(default_factory=Counter)
    answered: Counter[Stratum] = field(default_factory=Counter)  # items with answers
    cost: Counter[Stratum] = field(default_factory=Counter)
    gain: Counter[Stratum] = field(default_factory=Counter)

    def add(self, state: ItemState, before: str | None, truth: str | None) -> None:
        """Add an item. before: its label, also one that is none of the classes; truth: None if unknown."""
        stratum: Stratum = "unknown" if truth is None else "right" if before == truth else "wrong"
        self.items[stratum] += 1
        self.answered[stratum] += state.votes.spent > 0
        self.cost[stratum] += state.votes.spent
        for time, gain in _steps(state, before, truth, self.current_votes):
            self.times.append(time)
            self.gains.append(gain)
            self.of_items.append(state.item)
            self.gain[stratum] += gain

    def curve(self, places: Places | None = None) -> AnswerCurve:
        """Return the curve over the items so far. places: of each item in the order of asking; None: that of items."""
        known, start = self.items["right"] + self.items["wrong"], self.items["right"]
        times, gains = np.asarray(self.times), np.asarray(self.gains, np.int8)
        ranks = np.asarray(self.of_items, np.int32)
        in_order = np.lexsort((ranks if places is None else places[ranks], times))
        correct = start + np.concatenate([[0], np.cumsum(gains[in_order], dtype=np.int64)])
        kept = np.unique(np.linspace(0, len(gains), min(MOST_POINTS, len(gains) + 1)).round().astype(np.int64))
        slope = self._slope()
        points = [
            CurvePoint(n, int(correct[n]), None if slope is None else start + slope * n) for n in kept.tolist()
        ]  # fmt: skip
        timed = int(np.isfinite(times).sum())
        order: Order = "rank" if not timed else "time" if timed == len(times) else "rank, then time"
        return AnswerCurve(known=known, order=order, slope=slope, points=points)

    def _slope(self) -> float | None:
        gain = cost = 0.0
        for stratum, items in self.items.items():
            if items and not self.answered[stratum]:
                return None
            gain += items * self.gain[stratum] / max(1, self.answered[stratum])
            cost += items * self.cost[stratum] / max(1, self.answered[stratum])
        return gain / cost if cost else None


def _steps(
    state: ItemState, before: str | None, truth: str | None, current_votes: int
) -> Iterator[tuple[float, int]]:  # fmt: skip
    """Yield the time of each answer to an item, in their order, and what it adds to the number of correct labels."""
    votes, now = ItemVotes(), int(before == truth)
    given = state.votes
    names = sorted([*given.labels, *given.cannot_tell], key=lambda name: (_time(given.times.get(name)), _natural(name)))
    for name in names:
        if name in given.labels:
            votes.labels[name] = given.labels[name]
        after = votes.leader(state.current, current_votes) or before
        was, now = now, int(after == truth)
        yield _time(given.times.get(name)), 0 if truth is None else now - was


def _time(text: str | None) -> float:
    """Return seconds since 1970; minus infinity without a time that can be read. A time without a zone is UTC."""
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return -inf


def _natural(name: str) -> tuple[str, int, str]:
    """A key that sorts `simulated-10` after `simulated-9`: the n-th answer of an annotator."""
    found = re.fullmatch(r"(.*?)([0-9]{0,9})", name)
    assert found is not None
    return found[1], int(found[2] or 0), name
