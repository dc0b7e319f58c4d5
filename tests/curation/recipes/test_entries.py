"""Entries of tables, also inside each other: filters of filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from recipe_texts import changed, expect_mistake

from curation.core.digest import digest
from curation.core.errors import UserError
from curation.filters.caption import Caption
from curation.filters.named import described
from curation.filters.threshold import Threshold
from curation.recipes.curation_recipe import parse_recipe
from curation.scorers import SCORERS, CaptionNumberScorer, reads_of

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


@dataclass(frozen=True, kw_only=True)
class Reader(CaptionNumberScorer):
    """A scorer of another package that reads a column."""

    column: str

    def identity(self) -> dict[str, Any]:
        return {"kind": "reader", "code": 1, "column": self.column}

    def reads(self) -> Sequence[str]:
        return (self.column,)

    def load(self, device: Any, options: Any = None) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("column", ["json.name", "json.a.b", "uid", "content_hash"])
def test_columns_that_scorers_may_read(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "reader", Reader)
    (scorer,) = parse_recipe(f"corpus: c\noutput: o\nscorers:\n- reader: {{column: {column}}}\n").scorers.values()
    assert reads_of(scorer) == (column,)


@pytest.mark.parametrize("column", ["json.", "json", "caption_hash", "reason"])
def test_columns_that_no_sample_has_are_one_line(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "reader", Reader)
    with pytest.raises(UserError, match=rf"recipe:4: scorer reader: Reader reads the column '{column}'"):
        parse_recipe(f"corpus: c\noutput: o\nscorers:\n- reader: {{column: {column}}}\n")


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
