"""`--set`: one value of a recipe is replaced, and a mistake in it names the option."""

from __future__ import annotations

import pytest
from recipe_texts import GOOD
from services import one_line

from curation.core.errors import (
    RecipeError,
    TutelageError,
)
from curation.recipes.curation_recipe import parse_recipe


def test_overrides() -> None:
    recipe = parse_recipe(GOOD, overrides=["filters.top_fraction.fraction=0.1", "shards.samples=7", "output=/o2"])
    assert recipe.filters[1].filter.fraction == 0.1  # type: ignore[attr-defined]
    assert (recipe.shards.samples, recipe.output) == (7, "/o2")
    with pytest.raises(RecipeError) as nonsense:
        parse_recipe(GOOD, overrides=["filters.nonsense.x=1"])
    assert "the list has" in (nonsense.value.fix or "")
    with pytest.raises(RecipeError) as misspelt:
        parse_recipe(GOOD, overrides=["filters.top_fraktion.fraction=0.1"])
    assert misspelt.value.fix == "did you mean top_fraction?"
    with pytest.raises(RecipeError):
        parse_recipe(GOOD, overrides=["no-equals"])
    with pytest.raises(RecipeError, match=r"corpus=.*.tar: .* is not valid YAML"):
        parse_recipe(GOOD, overrides=["corpus=*.tar"])
    with pytest.raises(RecipeError, match=r"shards.samples is not a mapping"):
        parse_recipe(GOOD, overrides=["shards.samples.x.y=1"])
    with pytest.raises(RecipeError, match=r"filters.0 is an entry of a list"):
        parse_recipe(GOOD, overrides=["filters.0=1"])


@pytest.mark.parametrize(
    ("overrides", "said", "fix"),
    [
        (
            ["filters.top_fraction.fraction=2"],
            r"recipe:\d+ with --set filters.top_fraction.fraction: .*a share from",
            "",
        ),
        (["filters.1.name=9"], r"recipe:\d+ with --set filters.1.name: name 9 must be a word", ""),
        (["shards.samples=4", "shards.samples=4"], "--set shards.samples is given twice$", "once"),
        (
            ["filters.top_fraction.fraction=.1", "filters.1.fraction=.2"],
            "--set filters.1.fraction is given twice, once as --set filters.top_fraction.fraction",
            "once",
        ),
        (["shards.samples=4", "shards={}"], "--set shards replaces the value that --set shards.samples sets", "one"),
        (["shards=5"], "--set shards: shards: input should be a mapping", ""),
        (["nothing=1"], "--set nothing: unknown key nothing", "valid keys"),
        (["nothing.in=1"], "^--set nothing.in: unknown key nothing", "valid keys"),
        (["embedding.model=x"], "^--set embedding.model: unknown key embedding", "valid keys"),
        (["scorers.clip_score.name=embedding"], "recipe:6: .* this and the one at recipe:5 with --set scorers", "name"),
        (["corpus=[a, b]", "corpus.0=c"], "corpus is a list of values", "--set 'corpus=[a, b]'"),
        (["filters.0.caption.min_words=x"], "--set filters.0.caption.min_words: min_words: input should be", ""),
        (["filters.0.caption.caption.min_words=1"], "unknown key caption of caption", ""),
        (["corpus=&a [*a]"], "is not valid YAML: the document has more than", "quote"),
        (["shards={samples: 1, samples: 2}"], "the key samples is repeated; it is first in line 1", "quote"),
        (["filters.9=1"], "there is no 9 in the list", "the list has caption"),
        (["filters.9.x=1"], "there is no 9 in the list", "the list has caption"),
        (
            ["filters=[{caption: {min_words: 2}}, {caption: {min_words: 3}}]"],
            r"--set filters\[1\]: two filters are called caption, this and the one at --set filters\[0\]",
            "name",
        ),
        (["shards.sample=1"], "--set shards.sample: unknown key sample", "did you mean samples"),
    ],
)
def test_what_an_override_makes_wrong_is_said_of_it(overrides: list[str], said: str, fix: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        parse_recipe(GOOD, overrides=overrides)
    assert fix in (caught.value.fix or "")


def test_overrides_of_entries_that_are_called_alike() -> None:
    """An override names the entry by its own name or its number; it never takes the first one silently."""
    least, most = "- threshold: {score: clip_score, min: 0}", "- threshold: {score: clip_score, max: 1, name: most}"
    two = GOOD.replace("- caption: {min_words: 2}", f"{least}\n  {most}")
    named = parse_recipe(two, overrides=["filters.most.max=0.5", "filters.0.min=0.1"])
    assert [vars(item.filter) for item in named.filters[:2]] == [
        {"score": "clip_score", "min": 0.1, "max": None},
        {"score": "clip_score", "min": None, "max": 0.5},
    ]
    assert parse_recipe(two, overrides=["filters.threshold.min=0.2"]).filters[0].filter.min == 0.2  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match="has 2 entries threshold"):
        parse_recipe(two.replace(", name: most", ""), overrides=["filters.threshold.min=0.2"])


DEEP = "[" * 5000 + "]" * 5000


DIGITS = "9" * 5000


@pytest.mark.parametrize("given", [f"x={DEEP}", f"shards.samples={DIGITS}", "output=2001-01-01", "output=!!set {a}",
                                   'output="\\x1b"', "output=\0", "output=1:20", "output=&a [*a]", "a={1: 2}",
                                   "\x1b[3m=1",
                                   "compute.num_cpus=nan", f"output={'x' * (5 << 20)}", f"{DEEP}="])  # fmt: skip
def test_hostile_overrides(given: str) -> None:
    with pytest.raises(TutelageError) as caught:
        parse_recipe(GOOD, overrides=[given])
    assert one_line(caught.value).isprintable()
