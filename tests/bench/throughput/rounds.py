"""The figures of all arms, round by round: kept as JSON lines while the bench runs, and read by the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Median, smallest and largest value."""

    middle: float
    low: float
    high: float


@dataclass
class Rounds:
    """Figures by (workload, place, arm), one set a round. An arm that failed has its reason instead."""

    path: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, *paths: Path) -> Rounds:
        """Read the lines of earlier runs. Rounds of different runs get different numbers: ratios don't mix them."""
        found = cls()
        for path in paths:
            start = 1 + max((row["round"] for row in found.rows), default=-1)
            lines = map(json.loads, path.read_text().splitlines())
            found.rows += [{**row, "round": row["round"] + start} for row in lines]
        return found

    def note(self, workload: str, place: str, arm: str, number: int, **figures: float | str) -> None:
        """Add the figures of one arm in one round; `error`: why there are none; others that are text are settings."""
        row = {"workload": workload, "place": place, "arm": arm, "round": number, **figures}
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def pairs(self) -> list[tuple[str, str]]:
        """Return the (workload, place) that have figures, in the order in which they were measured."""
        return list(dict.fromkeys((row["workload"], row["place"]) for row in self.rows))

    def arms(self, workload: str, place: str) -> list[str]:
        """Return the arms that were tried there."""
        return list(dict.fromkeys(row["arm"] for row in self._of(workload, place)))

    def error(self, workload: str, place: str, arm: str) -> str:
        """Return why an arm failed, or an empty text."""
        return next((row["error"] for row in self._of(workload, place, arm) if "error" in row), "")

    def values(self, workload: str, place: str, arm: str, figure: str) -> dict[int, float]:
        """Return one figure of an arm by round."""
        return {row["round"]: row[figure] for row in self._of(workload, place, arm) if figure in row}

    def spread(self, workload: str, place: str, arm: str, figure: str) -> Spread | None:
        """Return the spread of one figure, or None where no round has it."""
        return spread(self.values(workload, place, arm, figure))

    def _of(self, workload: str, place: str, arm: str | None = None) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            if row["workload"] == workload and row["place"] == place and arm in (None, row["arm"]):
                yield row


def spread(values: dict[int, float]) -> Spread | None:
    """Return the spread of one figure by round, or None where there is none."""
    found = list(values.values())
    return Spread(median(found), min(found), max(found)) if found else None


def ratios(above: dict[int, float], below: dict[int, float]) -> dict[int, float]:
    """Divide two figures within each round that has both: a busy neighbour slows both sides of a round."""
    return {number: above[number] / below[number] for number in above.keys() & below.keys()}


def at_size(figures: dict[str, dict[int, float]], samples: int) -> dict[int, float]:
    """Return the rate from process start to exit for that many samples, by round.

    Formula: samples / (overhead + samples / steady), exact where the run had that many samples. figures: `overhead` and
    `steady` by round.
    """
    return {
        number: samples / (figures["overhead"][number] + samples / steady)
        for number, steady in figures["steady"].items()
    }
