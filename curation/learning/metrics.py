"""The lines of metrics.jsonl about training: losses, speed, lag, scores, and chosen shares by value of each field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from curation.learning.timing import TimedModel
from curation.selection.online import Choice, OnlineStep

BINS = 20  # of the histogram of scores
VALUES = 20  # of a field that a line lists, the most frequent ones


class Window:
    """The steps since the last line of metrics."""

    def __init__(self) -> None:
        self._offered: dict[str, Counter[str]] = {}
        self._chosen: dict[str, Counter[str]] = {}
        self._scores: list[Tensor] = []
        self._lags: list[int] = []
        self._more: dict[str, list[float]] = {}

    def add(self, choice: Choice, fields: Mapping[str, list[str]], more: Mapping[str, float]) -> None:
        """Add a step. fields: of its candidates, by name. more: further numbers, of which the line has the mean."""
        self._lags.append(choice.lag)
        for name, value in more.items():
            self._more.setdefault(name, []).append(value)
        if choice.scores is not None:
            self._scores.append(choice.scores)
        chosen = choice.chosen.tolist()
        for name, values in fields.items():
            self._offered.setdefault(name, Counter()).update(values)
            self._chosen.setdefault(name, Counter()).update(values[place] for place in chosen)

    def row(self) -> dict[str, Any]:
        """Return the largest `lag`, a histogram of `scores`, and `chosen_share` by value of each field."""
        found: dict[str, Any] = {"lag": max(self._lags, default=0)}
        found |= {name: round(sum(values) / len(values), 3) for name, values in self._more.items()}
        if self._scores:
            scores = torch.cat(self._scores)
            low, high = float(scores.min()), float(scores.max())
            counts = torch.histc(scores, BINS, low, high).int().tolist() if high > low else [len(scores)]
            found["scores"] = {"low": low, "high": high, "counts": counts}
        if self._offered:
            found["chosen_share"] = {
                name: {value: round(self._chosen[name][value] / n, 3) for value, n in offered.most_common(VALUES)}
                for name, offered in self._offered.items()
            }
        return found


def training_row(step: OnlineStep, timed: Mapping[str, TimedModel]) -> dict[str, Any]:
    """Return the figures of one update."""
    row = {
        "step": step.number + 1,
        "loss": round(float(step.report.loss), 5),
        "lr": step.report.lr,
        "gradient_norm": round(float(step.report.gradient_norm), 4),
        "samples_per_second": {name: round(one.samples / one.seconds) for name, one in timed.items() if one.seconds},
    }
    if step.online_report is not None:
        row["online_loss"] = round(float(step.online_report.loss), 5)
    return row
