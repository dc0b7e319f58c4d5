"""Figures of distributions over classes, against their definitions in plain Python."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.distributions import (
    AMBIGUOUS,
    LEAST,
    active_score,
    cross_entropy,
    entropy,
    flawed,
    margin,
    mutual_information,
)

Rows = list[list[float]]


@st.composite
def distributions(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Two tables of N distributions over K classes, with zeros and ties, from K = 2."""
    classes = draw(st.integers(2, 5))
    row = st.lists(st.sampled_from([0.0, 0.0, 1.0, 1.0, 2.0, 0.3]), min_size=classes, max_size=classes).filter(any)
    tables = st.lists(row, min_size=1, max_size=6)
    one = draw(tables)
    other = draw(st.lists(row, min_size=len(one), max_size=len(one)))
    return [[x / sum(r) for x in r] for r in one], [[x / sum(r) for x in r] for r in other]


def ce(q: list[float], p: list[float]) -> float:
    return -sum(a * log(max(b, LEAST), len(p)) for a, b in zip(q, p, strict=True))


@settings(max_examples=60)
@given(distributions())
def test_they_equal_their_definitions(tables: tuple[Rows, Rows]) -> None:
    labels, posterior = tables
    q, p = np.array(labels), np.array(posterior)
    error = [ce(a, b) for a, b in zip(labels, posterior, strict=True)]
    ambiguity = [min(1.0, max(0.0, ce(b, b))) for b in posterior]
    assert cross_entropy(q, p) == pytest.approx(error, abs=1e-9)
    assert entropy(p) == pytest.approx(ambiguity, abs=1e-9)
    wanted = [e - max(0.0, h - AMBIGUOUS) for e, h in zip(error, ambiguity, strict=True)]
    assert active_score(cross_entropy(q, p), entropy(p)) == pytest.approx(wanted, abs=1e-9)
    for a, b, found in zip(labels, posterior, margin(q, p), strict=True):
        own = a.index(max(a))
        assert found == pytest.approx(max(x for k, x in enumerate(b) if k != own) - b[own])
    means = [[(x + y) / 2 for x, y in zip(a, b, strict=True)] for a, b in zip(labels, posterior, strict=True)]
    apart = [ce(m, m) - (ce(a, a) + ce(b, b)) / 2 for m, a, b in zip(means, labels, posterior, strict=True)]
    assert mutual_information(np.stack([q, p])) == pytest.approx([max(0.0, x) for x in apart], abs=1e-6)


def test_known_values() -> None:
    half, sure = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
    assert entropy(half) == 1 and entropy(sure) == 0 and entropy(np.full((1, 10), 0.1)) == pytest.approx(1)
    assert cross_entropy(sure, half) == pytest.approx(1) and cross_entropy(sure, sure) == 0
    assert cross_entropy(sure[:, ::-1], sure) == pytest.approx(-log(LEAST, 2)), "a probability of 0 is clipped"
    assert cross_entropy(np.eye(10)[:1], np.eye(10)[1:2]) == pytest.approx(7)
    assert margin(sure, half) == 0 and margin(sure[:, ::-1], sure) == 1 and margin(sure, sure) == -1
    assert mutual_information(np.stack([sure, sure[:, ::-1]])) == pytest.approx(1)
    assert mutual_information(np.stack([half, half])) == 0


def test_rows_that_are_no_distribution() -> None:
    rows = [[0.5, 0.5], [0.5, 0.4995], [0.5, 0.49], [1.2, -0.2], [np.nan, 1.0], [np.inf, 0.0], [0.0, 0.0]]
    assert flawed(np.array(rows)).tolist() == [False, False, True, True, True, True, True]


def test_a_row_does_not_depend_on_the_others() -> None:
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(7), 1000), random.dirichlet(np.ones(7), 1000)
    for start, stop in ((0, 1), (3, 20), (20, 1000)):
        assert np.array_equal(cross_entropy(q, p)[start:stop], cross_entropy(q[start:stop], p[start:stop]))
        assert np.array_equal(entropy(p)[start:stop], entropy(p[start:stop]))
