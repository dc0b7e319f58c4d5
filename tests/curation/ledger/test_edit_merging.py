"""Merging edit lists: associative, idempotent, and independent of order unless the last list wins."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest
from edits_given import ONE, OTHER, THIRD, edits, lists, replaced, slot, verdict
from hypothesis import given, settings
from services import one_line

from curation.core.errors import ContradictingEditsError
from curation.ledger.edit_merging import contradictions, counts, diff, edits_of, merge
from curation.ledger.uid_lists import parse_list


def named(parts: list[pa.Table]) -> list[tuple[str, pa.Table]]:
    return [(f"list {n}", part) for n, part in enumerate(parts)]


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.slow
@settings(max_examples=15)  # each merge opens a database
@given(lists(agree=True))
def test_lists_that_agree_give_the_same_edits_in_any_order_and_grouping(parts: list[pa.Table]) -> None:
    whole = merge(named(parts))
    assert merge(named([whole, whole])) == whole
    assert all(merge(named(list(order))) == whole for order in list(permutations(parts))[1::7])
    assert merge(named([pa.concat_tables(parts)])) == whole
    left, right = merge(named(parts[:1])), merge(named(parts[1:]))
    assert merge(named([left, right])) == whole
    assert {slot(row): verdict(row) for row in rows(whole)} == {
        slot(row): verdict(row) for part in parts for row in rows(part)
    }
    assert len(whole) == len({slot(row) for row in rows(whole)})


@pytest.mark.slow
@settings(max_examples=15)
@given(lists(agree=False))
def test_the_last_list_wins_in_any_grouping(parts: list[pa.Table]) -> None:
    whole = merge(named(parts), last_wins=True)
    expected = {slot(row): verdict(row) for part in parts for row in rows(part)}
    assert {slot(row): verdict(row) for row in rows(whole)} == expected
    for cut in (0, len(parts) // 2):
        left, right = merge(named(parts[:cut]), last_wins=True), merge(named(parts[cut:]), last_wins=True)
        assert merge(named([left, right]), last_wins=True) == whole


@pytest.mark.slow
@settings(max_examples=30)
@given(lists(agree=False))
def test_every_contradiction_is_found(parts: list[pa.Table]) -> None:
    said: dict[Any, set[Any]] = {}
    for part in parts:
        for row in rows(part):
            said.setdefault(slot(row), set()).add(verdict(row))
    expected = {key for key, verdicts in said.items() if len(verdicts) > 1}
    found = contradictions(named(parts)).to_pylist()
    assert len(found) == len(expected) and {row["uid"] for row in found} == {key[0] for key in expected}
    if expected:
        with pytest.raises(ContradictingEditsError):
            merge(named(parts))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ((ONE, "keep"), (ONE, "drop"), "a.parquet says keep, but b.parquet says drop"),
        ((ONE, "drop"), (ONE, "keep"), "a.parquet says drop, but b.parquet says keep"),
        (
            (ONE, "weight", None, "2"),
            (ONE, "weight", None, "10"),
            "a.parquet gives the weight 2.0, but b.parquet gives the weight 10.0",
        ),
        (
            replaced(ONE, "label", '"cat"'),
            replaced(ONE, "label", '"dog"'),
            'a.parquet gives label the value "cat", but b.parquet gives label the value "dog"',
        ),
    ],
)
def test_a_contradiction_names_uid_lists_and_fix(left: tuple[Any, ...], right: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ContradictingEditsError) as caught:
        merge([("a.parquet", edits((OTHER, "keep"), left)), ("b.parquet", edits(right))])
    assert one_line(caught.value).startswith(f"uid {ONE}: {text}")
    assert "order: last_wins" in caught.value.fix


def test_other_edits_of_one_sample_agree() -> None:
    found = merge(
        [
            ("a", edits((ONE, "drop"), replaced(ONE, "label", "1"))),
            ("b", edits((ONE, "weight", None, "0.5"), replaced(ONE, "caption", '"x"'))),
            ("c", edits((ONE, "weight", None, "0.50"))),
        ]
    )
    assert counts(found) == {"drop": 1, "replace.caption": 1, "replace.label": 1, "weight": 1}


def test_a_comparison_lists_what_changed() -> None:
    left = edits((ONE, "keep"), replaced(ONE, "label", '"cat"', "review"), (THIRD, "weight", None, "1"))
    right = edits((ONE, "drop"), replaced(ONE, "label", '"cat"', "captions"), (OTHER, "keep"))
    assert [tuple(row.values()) for row in diff(left, right).to_pylist()] == [
        (ONE, "decision", "changed", "keep", "drop"),
        (OTHER, "decision", "added", None, "keep"),
        (THIRD, "weight", "removed", "1.0", None),
    ]
    assert diff(left, left).num_rows == 0


def test_lists_of_uids_are_short_forms() -> None:
    text = f"{ONE}\n{OTHER}\n{ONE}\n".encode()
    assert rows(edits_of("drop", parse_list("drop", text, "list"))) == rows(edits((ONE, "drop"), (OTHER, "drop")))
    weights = edits_of("weights", parse_list("weights", f"{ONE}\t0.1\n{OTHER}\t1\n".encode(), "list"))
    merged = merge([("short", weights), ("long", edits((ONE, "weight", None, "0.1"), (OTHER, "weight", None, "1.0")))])
    assert len(merged) == 2
