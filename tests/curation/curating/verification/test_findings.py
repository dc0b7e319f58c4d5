"""Findings: the paths at which two documents differ, and how a message names them."""

from __future__ import annotations

from typing import Any

import pytest

from curation.curating.verification.findings import MOST_FIELDS, Finding, differing, fields_differ, listed

DOCUMENT = {"a": 1, "b": {"c": [1, {"d": "x"}], "e": None}, "f": [1, 2]}


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({}, []),
        ({"a": 2}, ["a"]),
        ({"a": 1.0}, ["a"]),
        ({"a": True}, ["a"]),
        ({"b": {"c": [1, {"d": "y"}], "e": 0}}, ["b.c[1].d", "b.e"]),
        ({"b": {"c": [1, {"d": "x"}], "e": None, "more": 1}}, ["b.more"]),
        ({"f": [1, 2, 3]}, ["f"]),
        ({"f": "12"}, ["f"]),
        ({"later": 1}, []),
    ],
)
def test_paths_are_those_that_differ(change: dict[str, Any], paths: list[str]) -> None:
    """Keys that a newer version may have written are not compared at the top level."""
    assert differing(DOCUMENT, {**DOCUMENT, **change}) == paths


def test_a_missing_field_is_named() -> None:
    assert differing(DOCUMENT, {key: value for key, value in DOCUMENT.items() if key != "a"}) == ["a"]


@pytest.mark.parametrize("count", [1, 2, MOST_FIELDS, MOST_FIELDS + 3])
def test_of_many_names_the_first_are_listed(count: int) -> None:
    names = [f"n{n}" for n in range(count)]
    words = listed(names).replace(" and ", ", ").split(", ")
    assert words == names if count <= MOST_FIELDS else words == [*names[:MOST_FIELDS], f"{count - MOST_FIELDS} more"]


def test_one_field_differs_and_several_differ() -> None:
    assert fields_differ(["a"], "the unit's") == "field `a` differs from the unit's"
    assert fields_differ(["a", "b"], "the unit's") == "fields `a` and `b` differ from the unit's"


def test_a_mended_finding_is_the_same_one() -> None:
    finding = Finding("list", "/out/data/x", "is gone", "it is rebuilt")
    assert not finding.mended and finding.done(True).mended
    assert finding.done(True).done(False) == finding
    assert finding.done(True).to_json() == {**finding.to_json(), "mended": True}
