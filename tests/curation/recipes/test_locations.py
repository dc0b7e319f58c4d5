"""Locations: the line of a key, of its nearest parent, or the option that gave it."""

from __future__ import annotations

from curation.recipes.locations import Where

LINES = {("filters",): 7, ("filters", 0): 8, ("filters", 0, "caption"): 8}


def test_a_key_without_a_line_has_its_parent_s() -> None:
    where = Where("recipe.yaml", LINES)
    assert where(("filters", 0, "caption", "min_words")) == "recipe.yaml:8"
    assert where(("filters", 3)) == "recipe.yaml:7"
    assert where(("output",)) == where(()) == "recipe.yaml"


def test_values_of_options_are_located_at_the_option() -> None:
    where = Where("recipe.yaml", LINES, {("filters", 0, "caption", "min_words"): "--set filters.caption.min_words"})
    assert where(("filters", 0, "caption", "min_words")) == "--set filters.caption.min_words"
    assert where(("filters", 0)) == "recipe.yaml:8 with --set filters.caption.min_words"
    assert Where("recipe", LINES, {("filters",): "--set filters"})(("filters", 1, "caption")) == "--set filters[1]"


def test_a_message_begins_with_a_location_of_its_document() -> None:
    where = Where("recipe.yaml", LINES)
    assert where.begins("recipe.yaml:8: unknown key") and where.begins("--set x: unknown key")
    assert not where.begins("s3://models/w.safetensors does not exist")
