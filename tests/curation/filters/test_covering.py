"""Families of keys: whatever few bits differ, one key is left."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters.covering import BITS, Family, families, masks
from curation.filters.hamming import MOST_DISTANCE

DISTANCES = range(1, MOST_DISTANCE + 1)
FAMILIES = [
    pytest.param(distance, family, id=f"{distance} of {family.blocks}, {family.keys} keys")
    for distance in DISTANCES
    for family in families(distance)
    if family.blocks <= 14
]


@pytest.mark.parametrize(("distance", "family"), FAMILIES)
def test_some_key_has_none_of_the_blocks_that_differ(distance: int, family: Family) -> None:
    keys = [sum(1 << block for block in key) for key in family.made()]
    assert len(set(keys)) == family.keys and {key.bit_count() for key in keys} == {family.size}
    assert max(keys) < 1 << family.blocks
    if family.size == family.blocks - distance:  # all of them: nothing to try
        return
    for differing in combinations(range(family.blocks), distance):
        bad = sum(1 << block for block in differing)
        assert any(key & bad == 0 for key in keys), differing


@settings(max_examples=60)
@given(
    st.sampled_from(DISTANCES),
    st.integers(0, 2**BITS - 1),
    st.data(),
    st.sampled_from([10, 10**5, 10**7, 10**9]),
    st.sampled_from([0.015, 0.12, 1.0]),
)
def test_hashes_within_the_distance_agree_in_one_of_the_masks(
    distance: int, one: int, data: Any, hashes: int, compare: float
) -> None:
    other = one
    for bit in data.draw(st.lists(st.integers(0, 63), max_size=distance, unique=True)):
        other ^= 1 << bit
    assert any((one ^ other) & mask == 0 for mask in masks(distance, hashes, compare))


def test_masks_are_few_where_comparisons_are_cheap() -> None:
    counts = [len(list(masks(4, 10**7, compare))) for compare in (0.015, 0.12, 1.0)]
    assert counts == [20, 20, 33]
