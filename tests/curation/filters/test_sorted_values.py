"""Distinct, repeated and contained values of sorted arrays, compared with sets, also across the bounds of parts."""

from __future__ import annotations

from collections import Counter

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.filters import sorted_values

VALUES = st.lists(st.one_of(st.integers(0, 5), st.integers(2**64 - 3, 2**64 - 1)), max_size=40)


@pytest.mark.parametrize("part", [1, 3, 1 << 15])
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(values=VALUES)
def test_each_once(part: int, values: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_values, "PART", part)
    ordered = np.array(sorted(values), np.uint64)
    again = [value for value, count in sorted(Counter(values).items()) if count > 1]
    assert sorted_values.repeated_values(ordered.copy()).tolist() == again
    assert sorted_values.distinct_values(ordered).tolist() == sorted(set(values))


def test_signed_values_are_sorted_as_unsigned_ones() -> None:
    with duckdb.connect() as db:
        found = sorted_values.read_sorted(db, "SELECT unnest([3, -1, -9223372036854775808, 3])::BIGINT")
    assert found.tolist() == [3, 3, 1 << 63, 2**64 - 1]
