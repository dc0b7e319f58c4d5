"""The label of a sample: a name or votes, and why it is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.scorers.label import word
from curation.scorers.label_values import label_distributions, votes_of


@pytest.mark.parametrize(
    ("value", "votes", "shown"),
    [
        ("cat", {"cat": 1.0}, "cat"),
        (3, {"3": 1.0}, "3"),
        (False, {"False": 1.0}, "False"),
        ({"dog": 3, "cat": 1, "fox": 0}, {"dog": 0.75, "cat": 0.25}, "dog"),
        ({"dog": 2, "cat": 2}, {"dog": 0.5, "cat": 0.5}, "cat"),
        (None, {}, ""),
        ("", {}, ""),
        (["cat"], None, ""),
        ({}, None, ""),
        ({"cat": 0}, None, ""),
        ({"cat": -1, "dog": 2}, None, ""),
        ({"cat": float("nan")}, None, ""),
        ({"cat": "many"}, None, ""),
    ],
)
def test_votes(value: Any, votes: dict[str, float] | None, shown: str) -> None:
    assert votes_of(value) == votes and word(value) == shown


def test_distributions_and_reasons() -> None:
    values = ["b", {"a": 1, "b": 3}, None, [], "c", {"a": 1, "c": 0}, {"a": 1, "c": 1}]
    found, reasons = label_distributions(values, ["a", "b"])
    assert found[[0, 1, 5]].tolist() == [[0, 1], [0.25, 0.75], [1, 0]]
    assert reasons == {2: "no_label", 3: "bad_label", 4: "unknown_class", 6: "unknown_class"}
    assert np.allclose(found.sum(axis=1), 1)
