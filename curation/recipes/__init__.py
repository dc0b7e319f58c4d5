"""Recipes: YAML documents, overrides, and the two kinds of recipe, validated line by line.

Their entries are the dataclasses of the rooms' tables, so recipes stand above the rooms."""

__all__ = [
    "curation_recipe",
    "entries",
    "learning_recipe",
    "learning_sections",
    "recipe_limits",
    "yaml_document",
    "yaml_overrides",
]
