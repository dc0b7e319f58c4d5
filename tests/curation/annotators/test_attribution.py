"""Names of reviewers, and the words that figures carry."""

from __future__ import annotations

import pytest

from curation.annotators import ANNOTATORS
from curation.annotators.attribution import ABOUT, attributed, kind_of, reviewer_of, who_answered


def test_each_annotator_has_its_words() -> None:
    assert {name: annotator.about for name, annotator in ANNOTATORS.items()} == ABOUT


@pytest.mark.parametrize("kind", ["recorded", "simulated"])
def test_the_name_says_the_kind(kind: str) -> None:
    assert kind_of(reviewer_of(kind, 12)) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ann", "simulated", "simulated-0", "simulated-1a", "xsimulated-1", "recorded-"])
def test_other_names_are_those_of_people(name: str) -> None:
    assert kind_of(name) == "people"


def test_who_answered() -> None:
    assert who_answered([]) == who_answered(["ann", "bob"]) == ""
    assert who_answered(["simulated-1", "simulated-2"]) == "simulated annotators"
    mixed = who_answered(["ann", "recorded-1", "simulated-1"])
    assert mixed == "simulated annotators and recorded votes and reviewers"


def test_the_words_stand_in_front_of_each_line() -> None:
    assert list(attributed("recorded votes", ["1 item", "2 items"])) == [
        "recorded votes: 1 item",
        "recorded votes: 2 items",
    ]
    assert list(attributed("", ["1 item"])) == ["1 item"]
