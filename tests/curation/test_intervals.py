"""Intervals against tables and arithmetic by hand."""

from __future__ import annotations

import pytest

from curation.intervals import difference, estimate, student


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (120, 1.980)],
)
def test_student_is_the_printed_table(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_mean_of_three() -> None:
    found = estimate([0.1, 0.2, 0.3])  # s = 0.1; 4.3027 * 0.1 / sqrt(3)
    assert found.mean == pytest.approx(0.2) and found.half == pytest.approx(0.24842, abs=1e-5)
    assert str(found) == "0.200 ± 0.248"


def test_one_value_has_no_interval_and_shows_nothing() -> None:
    assert estimate([0.4]) == (0.4, None) and str(estimate([0.4])) == "0.400"
    alone = difference({0: 0.9}, {0: 0.1})
    assert (alone.half, alone.word, str(alone)) == (None, "no difference shown", "+0.800")


def test_pairs_are_narrower_than_their_spread() -> None:
    theirs = {0: 0.10, 1: 0.20, 2: 0.30}
    ours = {0: 0.12, 1: 0.23, 2: 0.34}  # differences 0.02, 0.03, 0.04: s = 0.01; 4.3027 * 0.01 / sqrt(3)
    found = difference(ours, theirs)
    assert found.paired and found.mean == pytest.approx(0.03) and found.half == pytest.approx(0.024842, abs=1e-6)
    assert found.word == "better" and difference(theirs, ours).word == "worse"
    assert difference(ours, ours).word == "no difference shown"
    assert difference({0: 0.5, 1: 0.25}, {0: 0.25, 1: 0.0}).word == "no difference shown", "no spread at all"


def test_seeds_that_are_no_pairs_are_two_samples() -> None:
    # variances 0.01 and 0.04 of three each: se^2 = 0.05 / 3; freedom 0.05^2 / ((0.01^2 + 0.04^2) / 2) = 2.94, so 2
    found = difference({0: 0.4, 1: 0.5, 2: 0.6}, {7: 0.0, 8: 0.2, 9: 0.4})
    assert not found.paired and found.mean == pytest.approx(0.3)
    assert found.half == pytest.approx(4.3027 * (0.05 / 3) ** 0.5, abs=1e-4)
    assert difference({0: 0.4}, {7: 0.1, 8: 0.2}).half is None
