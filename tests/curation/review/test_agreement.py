"""Krippendorff's alpha against the values of the literature, and where it is not defined."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.review.agreement import Agreement, PairedLabels

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): A, two observers of binary data; B, two observers of
# nominal data; C, four observers with missing data. Last: Wikipedia's example, three observers.
PUBLISHED = [
    (["0100000010", "1110010000"], 0.095),
    (["aabbdcccedda", "babbbcccedd" + "d"], 0.692),
    (["123321412...", "123322412" + "5.3", ".33323422" + "51.", "123324412" + "51."], 0.743),
    ([".....34121133.3", "1.21334" + "3.......", "..21344.21133.4"], 0.691),
]


def agreement(observers: list[str]) -> Agreement:
    """Alpha of strings, a character an item; `.` is missing."""
    paired = PairedLabels()
    for item in zip(*observers, strict=True):
        paired.add({f"r{n}": label for n, label in enumerate(item) if label != "."})
    return paired.agreement()


@pytest.mark.parametrize(("observers", "alpha"), PUBLISHED)
def test_published_values(observers: list[str], alpha: float) -> None:
    assert agreement(observers).alpha == pytest.approx(alpha, abs=5e-4)


def test_what_it_was_computed_over() -> None:
    found = agreement(PUBLISHED[2][0])
    assert (found.items, found.labels, found.reviewers) == (11, 40, 4), "the last item has one label"


@pytest.mark.parametrize(
    ("observers", "why"),
    [
        ([], "no item has labels of two reviewers"),
        (["abc"], "no item has labels of two reviewers"),
        (["a.c.", ".b.d"], "no item has labels of two reviewers"),
        (["aaa", "aaa"], "all these labels name one class"),
    ],
)
def test_not_defined(observers: list[str], why: str) -> None:
    found = agreement(observers)
    assert found.alpha is None and found.undefined == why


@given(st.lists(st.text("abc.", min_size=3, max_size=3), max_size=8))
def test_it_is_one_minus_observed_over_expected_disagreement(items: list[str]) -> None:
    """The definition, pair by pair."""
    units = [[label for label in item if label != "."] for item in items]
    units = [unit for unit in units if len(unit) > 1]
    labels = [label for unit in units for label in unit]
    pairs = [a != b for a, b in permutations(labels, 2)]
    found = agreement(["".join(column) for column in zip(*items, strict=True)])
    if not any(pairs):
        assert found.alpha is None
        return
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / len(labels)
    assert found.alpha == pytest.approx(1 - observed / (sum(pairs) / len(pairs)))
