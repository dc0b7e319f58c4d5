"""Labellings by name, and the labels of samples under an edit list."""

from __future__ import annotations

from typing import Any

import pytest
from edits_given import ONE, OTHER, THIRD, edits, replaced
from services import one_line

from curation.core.errors import UserError
from curation.evaluation.labellings import Labelling, labellings, relabelled, restrict

FOURTH = "d" * 32


def test_before_and_after_are_the_stored_labels_and_the_edited_ones() -> None:
    assert labellings("before,after", ["e"]) == [Labelling("before"), Labelling("after", ("e",))]
    assert labellings(["before", "after"], ["e", "f"])[1].lists == ("e", "f")
    assert labellings("raw=stored, truth=t.parquet") == [Labelling("raw"), Labelling("truth", ("t.parquet",))]
    assert labellings({"noisy": None, "true": "t", "both": ["t", "u"]}) == [
        Labelling("noisy"),
        Labelling("true", ("t",)),
        Labelling("both", ("t", "u")),
    ]


@pytest.mark.parametrize(
    ("text", "given", "part", "fix"),
    [
        ("before,after", (), "after names no labels", "--edits"),
        ("before,clean", (), "clean names no labels", "clean=edits.parquet"),
        ("before,before", (), "no names that differ", "before,after"),
        ("before,x=", (), "names no edit list", "x=edits.parquet"),
        ("before", ("e",), "no labelling applies the edits e", "after"),
        ("", (), "names no labels", "stored"),
        ({}, (), "no names that differ", "before,after"),
    ],
)
def test_a_name_without_labels_is_an_error(text: Any, given: tuple[str, ...], part: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        labellings(text, given)
    assert part in one_line(caught.value) and fix in caught.value.fix


def test_edits_replace_and_drop_labels() -> None:
    uids, stored = [ONE, OTHER, THIRD], ["cat", "dog", ""]
    table = edits(
        replaced(ONE, "name", '"owl"'),
        (OTHER, "drop"),
        replaced(THIRD, "name", "7"),
        replaced(FOURTH, "name", '"cat"'),
        replaced(ONE, "caption", '"a dog"'),
        (ONE, "keep"),
    )
    found = relabelled(uids, stored, table, "name")
    assert found.labels == ["owl", None, "7"]
    assert (found.replaced, found.unknown, found.stale) == (2, 1, [])
    assert relabelled(uids, stored, None, "name").labels == ["cat", "dog", None]
    restrict(found, ["owl", "cat"])
    assert found.labels == ["owl", None, None] and found.left_out == {"dropped": 1, "unknown_class": 1}


def test_an_edit_of_another_label_than_the_stored_one_is_stale() -> None:
    table = edits(
        (ONE, "replace", "name", '"owl"', '"cat"'), (OTHER, "replace", "name", '"owl"', '"cat"'),
        (THIRD, "replace", "name", '"owl"', "7"),
    )  # fmt: skip
    found = relabelled([ONE, OTHER, THIRD], ["cat", "dog", "7"], table, "name")
    assert found.labels == ["owl", "dog", "owl"] and found.replaced == 2
    assert found.stale == [{"uid": OTHER, "expected": "cat", "present": "dog"}]


def test_a_confirmed_label_is_not_replaced() -> None:
    found = relabelled([ONE], ["cat"], edits(replaced(ONE, "name", '"cat"')), "name")
    assert found.labels == ["cat"] and found.replaced == 0
    restrict(found, ["cat"])
    assert found.left_out == {}
