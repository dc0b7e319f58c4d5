"""The matrix A: its measures by hand, groups that are no types are merged, and what is not judged is not claimed."""

from __future__ import annotations

import pytest

from curation.diagnosis.type_matrix import (
    FailureGroup,
    TunedRow,
    independence,
    intervals,
    learnability,
    matrix,
    merge_dependent,
)


def group(name: str, held_out: int = 4) -> FailureGroup:
    return FailureGroup(name, (f"{name}m",), tuple(f"{name}{number}" for number in range(held_out)))


def row(*right: str) -> TunedRow:
    return TunedRow(frozenset(right), 0.95, False, 20, 1.0)


A, B, C = group("a"), group("b"), group("c")


def test_measures_by_hand() -> None:
    rows = {"a": row("a0", "a1", "a2", "b0"), "b": row("b0", "b1", "b2", "b3", "a0", "a1")}
    found = matrix([A, B], rows)
    assert found == [[0.75, 0.25], [0.5, 1.0]]
    assert learnability(found) == pytest.approx(0.875)
    assert independence(found) == pytest.approx(((0.75 - 0.25) + (1.0 - 0.5)) / 2)
    learned, apart = intervals([A, B], rows)
    assert learned and apart and learned[0] < 0.875 < learned[1] and apart[0] < 0.5 < apart[1]
    assert intervals([A, B], rows) == (learned, apart)


def test_dependent_groups_are_merged_and_measured_again() -> None:
    measured: list[FailureGroup] = []

    def measure(one: FailureGroup) -> TunedRow:
        measured.append(one)
        return row(*C.held_out) if one is C else row(*A.held_out, *B.held_out)

    left, rows, merges = merge_dependent([A, B, C], measure)
    assert [one.name for one in left] == ["a+b", "c"] and set(rows) == {"a", "b", "c", "a+b"}
    assert left[0].members == ("am", "bm") and len(left[0].held_out) == 8 and measured[-1] is left[0]
    ((one, other, value),) = merges
    assert (one, other, value) == ("a", "b", 0)
    assert matrix(left, rows) == [[1, 0], [0, 1]]


def test_what_was_not_judged_is_neither_compared_nor_claimed() -> None:
    none = group("n", 0)
    left, rows, merges = merge_dependent([A, none], lambda one: row(*A.held_out))
    assert left == [A, none] and not merges
    found = matrix(left, rows)
    assert found == [[1, None], [1, None]] and learnability(found) == 1 and independence(found) is None
    assert intervals(left, rows)[1] is None
    assert learnability(matrix([none], rows)) is None
