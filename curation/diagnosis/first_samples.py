"""The first samples of a ranking whose scores come unit by unit.

Memory: the `count` entries. Cost: a sort of each unit's scores; of a unit, only samples that enter are looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Ranked(NamedTuple, Generic[T]):
    """A sample with its score, and what was kept of it."""

    score: float
    uid: str
    item: T


class FirstSamples(Generic[T]):
    """The `count` samples with the highest scores, ties by uid, whatever the order of units."""

    def __init__(self, count: int) -> None:
        self._count, self._seen = count, 0
        # The second part orders equal scores by uid; the third keeps items out of comparisons.
        self._heap: list[tuple[float, tuple[int, ...], int, Ranked[T]]] = []

    def add(self, scores: npt.NDArray[np.float32], uids: Sequence[str], item: Callable[[int], T]) -> None:
        """Take the samples of a unit. item: what is kept of the sample at a place; called for those that enter."""
        for place in np.argsort(-scores, kind="stable").tolist():
            score, uid = float(scores[place]), uids[place]
            if len(self._heap) == self._count and score < self._heap[0][0]:
                break
            number = self._seen + place
            entry = (score, tuple(-ord(sign) for sign in uid), number, Ranked(score, uid, item(place)))
            if len(self._heap) < self._count:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)
        self._seen += len(uids)

    def ranked(self) -> list[Ranked[T]]:
        """Return them, the highest score first."""
        return [entry[-1] for entry in sorted(self._heap, reverse=True)]
