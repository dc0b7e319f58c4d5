"""Where groups end, how samples are split, and that a json keeps its bytes when uid and source are spliced in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.data import ShardRef
from curation.writing import _even_split, annotate, group_units

SHARD = ShardRef("a.tar", 1, "e")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def units(counts: list[tuple[str, int]]) -> list[tuple[ShardRef, int, int]]:
    return [(ShardRef(key, 1, "e"), kept, kept * 2) for key, kept in counts]


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 50))
def test_groups_cover_all_units_in_order(kept: list[int], samples: int) -> None:
    groups = list(group_units(units([(f"{i:05d}", n) for i, n in enumerate(kept)]), samples))
    covered = [ordinal for first, last in groups for ordinal in range(first, last + 1)]
    assert covered == list(range(len(kept)))
    for first, last in groups:
        assert first == last or sum(kept[first : last + 1]) <= samples


def test_a_new_unit_changes_the_groups_around_it_only() -> None:
    counts = [(f"{i:05d}", 30 + i % 7) for i in range(400)]

    def names(items: list[tuple[str, int]]) -> set[tuple[str, ...]]:
        return {tuple(k for k, _ in items[first : last + 1]) for first, last in group_units(units(items), 200)}

    before = names(counts)
    for position in (0, 17, 200, 399):
        after = names([*counts[:position], (f"{position:05d}x", 33), *counts[position:]])
        assert len(after - before) <= 12, "a new shard rewrites its surroundings, not the dataset"
        assert len(after) >= 70


@given(st.integers(0, 500), st.integers(1, 60))
def test_splits_are_even_and_as_few_as_can_be(n: int, most: int) -> None:
    sizes = [stop - start for start, stop in _even_split(n, most)]
    assert sum(sizes) == n and len(sizes) == -(-n // most)
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)


@given(
    st.dictionaries(st.text().filter(lambda key: key != "tutelage"), JSON), st.sampled_from([None, 1]), st.booleans()
)
def test_annotate_keeps_every_other_byte(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    original = (json.dumps(value, indent=indent, ensure_ascii=ascii_only) + "\n ").encode(errors="surrogatepass")
    try:
        original.decode()
    except UnicodeDecodeError:
        return  # a lone surrogate is not UTF-8: such a json is quarantined before it gets here
    out = annotate(original, "u", SHARD, 512, 1024)
    assert out.startswith(original.rstrip()[:-1].rstrip())
    entry = json.loads(out)
    assert entry.pop("tutelage") == {"uid": "u", "source": {"key": "a.tar", "etag": "e", "offset": 512, "length": 1024}}
    assert entry == value


def test_annotate_keeps_an_earlier_entry_as_parent() -> None:
    once = annotate(b'{"a": 1}', "u", SHARD, 0, 512)
    twice = json.loads(annotate(once, "v", ShardRef("b.tar", 1, "f"), 7, 9))
    assert twice["a"] == 1
    assert twice["tutelage"]["uid"] == "v"
    assert twice["tutelage"]["parent"] == json.loads(once)["tutelage"]


@pytest.mark.parametrize("original", [b"{}", b" { } ", b'{"a":1.50, "a": 2}'])
def test_annotate_odd_but_valid(original: bytes) -> None:
    assert json.loads(annotate(original, "u", SHARD, 0, 1))["tutelage"]["uid"] == "u"
