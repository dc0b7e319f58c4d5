"""Folds by a hash of the picture."""

from __future__ import annotations

from collections import Counter

from curation.core.folds import fold_of


def test_folds_are_equally_large_and_never_change() -> None:
    contents = [f"{number:032x}" for number in range(5000)]
    found = [fold_of(text, 5) for text in contents]
    assert all(900 < count < 1100 for count in Counter(found).values()) and set(found) == set(range(5))
    assert found[:8] == [0, 3, 1, 3, 1, 2, 1, 2], "files of classifiers depend on the rule: raise FOLD_RULE"
    other = [fold_of(text, 5, run=1) for text in contents]
    assert 900 < sum(a == b for a, b in zip(found, other, strict=True)) < 1100, "runs are independent"
