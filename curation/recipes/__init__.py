"""Recipes: YAML documents, overrides, and the two kinds of recipe, validated line by line.

Their entries are the dataclasses of the rooms' tables, so they stand above the rooms."""

__all__ = [
    "curation_recipe",
    "learning_recipe",
    "recipe_limits",
    "yaml_document",
    "yaml_overrides",
]
