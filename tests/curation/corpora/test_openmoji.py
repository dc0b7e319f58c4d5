"""Emoji of the package and their names."""

from __future__ import annotations

from curation.corpora.openmoji import openmoji


def test_names_of_emoji() -> None:
    names = {drawing.key: drawing.name for drawing in openmoji(0)}
    assert names["openmoji-1F600"] == "grinning face"
    assert names["openmoji-E010"] == "E010"  # a useless name, as the package has it
    assert names["openmoji-2605"] == "black star"
