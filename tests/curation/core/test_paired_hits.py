"""McNemar's exact test: its interval excludes 0 exactly where the test rejects, and keeps its level."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from curation.core.intervals import LEVEL
from curation.core.paired_hits import hit_difference

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, st.integers(0, 100), st.integers(1, 40))
def test_the_interval_is_the_test(first: int, second: int, same: int, comparisons: int) -> None:
    total = first + second + same
    found = hit_difference(first, second, max(1, total), comparisons)
    assert found.low <= found.mean <= found.high
    assert (found.word != "no difference shown") == (found.p < (1 - LEVEL) / comparisons)
    swapped = hit_difference(second, first, max(1, total), comparisons)
    assert np.allclose((swapped.mean, swapped.low, swapped.high), (-found.mean, -found.high, -found.low))


def test_p_is_that_of_a_fair_coin() -> None:
    found = hit_difference(9, 1, 100)
    assert found.mean == 0.08 and found.p == binomtest(9, 10, 0.5).pvalue and found.word == "better"
    assert hit_difference(9, 1, 100, comparisons=30).word == "no difference shown"
    assert hit_difference(0, 0, 100).word == "no difference shown"


def test_equal_models_are_rarely_told_apart() -> None:
    """20 reports of 15 pairs each: at most one false claim in twenty reports, here none."""
    random = np.random.default_rng(0)
    false = 0
    for _ in range(20):
        hits = random.random((6, 400)) < 0.7
        words = [
            hit_difference(int((a & ~b).sum()), int((b & ~a).sum()), 400, 15).word
            for at, a in enumerate(hits)
            for b in hits[at + 1 :]
        ]
        false += any(word != "no difference shown" for word in words)
    assert false <= 2
