"""Entries of tables, also inside each other: filters of filters."""

from __future__ import annotations

import pytest
from recipe_texts import changed, expect_mistake

from curation.core.digest import digest
from curation.filters.caption import Caption
from curation.filters.named import described
from curation.filters.threshold import Threshold
from curation.recipes.curation_recipe import parse_recipe

NESTED = """
corpus: c
output: o
scorers:
- caption_stats: {}
filters:
- any:
    of:
    - threshold: {score: caption_stats.words, min: 3}
    - not: {of: [{caption: {min_words: 2}}]}
"""


def test_filters_of_filters() -> None:
    (item,) = parse_recipe(NESTED).filters
    assert item.filter.columns() == ("caption_stats.words", "caption")
    words = {"score": "caption_stats.words", "min": 3.0, "max": None}
    inner = ["NotOf", {"of": [["Caption", vars(Caption(min_words=2)), Caption.code]]}]
    assert described(item.filter) == ["AnyOf", {"of": [["Threshold", words, Threshold.code], inner]}]
    assert digest(described(item.filter))


@pytest.mark.parametrize(
    ("was", "is_", "words"),
    [
        ("min_words", "min_word", "unknown key min_word of caption"),
        ("stats.words", "stats.word", "reads the score caption_stats.word, which no scorer makes"),
        ("[{caption: {min_words: 2}}]", "[]", "`of` is empty"),
        ("[{caption: {min_words: 2}}]", "7", "`of` must be a list of filters"),
        ("caption: {", "captain: {", "unknown filter captain"),
    ],
)
def test_mistakes_in_filters_of_filters_are_one_line(was: str, is_: str, words: str) -> None:
    text = changed(NESTED, was, is_)
    expect_mistake(lambda: parse_recipe(text), words, "recipe")
