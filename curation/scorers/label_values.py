"""The label of a sample, a field of its json: a name, or votes for several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def votes_of(value: Any) -> dict[str, float] | None:
    """Return class -> share of the votes, from the value of the field; {} for no label, None for an unusable one.

    A name, a number or a truth value is one vote for its text (`1` and `"1"` are one class). A mapping has votes:
    non-negative numbers, which are divided by their sum.
    """
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        return None if isinstance(value, list) else {str(value): 1.0}
    votes = list(value.values())
    if not all(isinstance(vote, int | float) and isfinite(vote) and vote >= 0 for vote in votes) or not sum(votes) > 0:
        return None
    total = sum(votes)
    return {name: vote / total for name, vote in value.items() if vote}


def label_distributions(values: Sequence[Any], classes: Sequence[str]) -> tuple[Array, Mapping[int, str]]:
    """Return the distributions of N labels over the classes, float64 [N, K], and row -> reason for those without one.

    Rows with a reason are uniform.
    """
    index = {name: number for number, name in enumerate(classes)}
    found = np.full((len(values), len(classes)), 1 / max(1, len(classes)))
    reasons: dict[int, str] = {}
    for row, value in enumerate(values):
        votes = votes_of(value)
        if not votes:
            reasons[row] = "bad_label" if votes is None else "no_label"
        elif not votes.keys() <= index.keys():
            reasons[row] = "unknown_class"
        else:
            found[row] = 0
            for name, share in votes.items():
                found[row, index[name]] = share
    return found, reasons
