"""Filters as a recipe names them: the columns that they read, and what decides their drops."""

from __future__ import annotations

from curation.filters.algebra import AnyOf, NotOf
from curation.filters.caption import Caption
from curation.filters.decontaminate import Decontaminate
from curation.filters.named import READABLE, NamedFilter, columns_needed, described
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction

FILTERS = [
    NamedFilter("words", Caption(min_words=2)),
    NamedFilter("best", TopFraction(score="clip_score", fraction=0.5)),
    NamedFilter("either", AnyOf(of=(Threshold(score="width", min=9), NotOf(of=(Threshold(score="x", max=1),))))),
]


def test_columns_of_the_index_and_scores_are_told_apart() -> None:
    assert columns_needed(FILTERS) == (["caption", "width"], ["clip_score", "x"])
    assert columns_needed([]) == ([], [])
    assert {"caption", "width", "format"} <= set(READABLE) and not {"row", "uid", "members"} & set(READABLE)


def test_the_place_in_the_recipe_decides_nothing() -> None:
    one, other = NamedFilter("a", Caption(min_words=2), "r.yaml:3"), NamedFilter("a", Caption(min_words=2), "r.yaml:9")
    assert one == other


def test_parts_of_a_filter_decide_its_drops() -> None:
    inner = Threshold(score="x", min=1)
    assert described(AnyOf(of=(inner,))) == ["AnyOf", {"of": [described(inner)]}]
    assert described(AnyOf(of=(inner,))) != described(AnyOf(of=(Threshold(score="x", min=2),)))


def test_a_field_that_was_added_later_is_left_out_while_it_has_its_default() -> None:
    """Snapshots of versions without the field stay current."""
    plain = described(Decontaminate(against=("a",)))
    assert "origins" not in plain[1] and plain[1]["threshold"] == 0.95
    assert described(Decontaminate(against=("a",), origins=("real", "relabelled"))) == plain
    assert described(Decontaminate(against=("a",), origins=("synthetic",)))[1]["origins"] == ("synthetic",)
