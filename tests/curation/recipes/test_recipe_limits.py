"""The section `limits`: formats and backgrounds that exist."""

from __future__ import annotations

import pytest
from recipe_texts import GOOD

from curation.core.errors import (
    RecipeError,
)
from curation.recipes.curation_recipe import parse_recipe


def test_limits_name_formats_and_backgrounds_that_there_are() -> None:
    for change, said in (("formats: [jpg]", "'jpg' is not a supported format"), ("background: green", "background")):
        with pytest.raises(RecipeError, match=said):
            parse_recipe(GOOD + f"limits: {{{change}}}\n")
