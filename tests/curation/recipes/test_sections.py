"""Both recipes as models: every field is described, schemas are made of them, and they travel whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from curation.core.errors import UserError
from curation.recipes.curation_recipe import Recipe, parse_recipe
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.recipes.sections import Document, Section

CURATION = """
corpus: /data
output: /out
scorers: [caption_stats: {}]
filters: [caption: {min_words: 2}]
"""
LEARNING = """
data: [a, b]
output: out
learner: {contrastive: {steps: 3}}
online: {lr: 0.1}
selection: {selector: hard_learner, filtering_ratio: {start: 0.8, end: 0.5}}
"""


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    """A model and all models within it."""
    yield kind
    for field in kind.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from sections(field.annotation)


@pytest.mark.parametrize("kind", [*sections(Recipe), *sections(LearnRecipe)], ids=lambda kind: str(kind.__name__))
def test_every_field_is_described(kind: type[Section]) -> None:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        described = isinstance(inner, type) and issubclass(inner, Section) and inner.__doc__
        assert field.description or described, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", [Recipe, LearnRecipe])
def test_the_schema_shows_what_yaml_has(kind: type[Document]) -> None:
    schema = kind.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"patience", "endpoint"} <= set(schema["$defs"]["StoreSection"]["properties"])
    if kind is Recipe:
        assert schema["properties"]["filters"]["type"] == "array"
        assert {one["type"] for one in schema["properties"]["corpus"]["anyOf"]} == {"string", "array"}
        assert schema["required"] == ["corpus", "output"]
    else:
        assert schema["properties"]["learner"]["type"] == "object"
        assert schema["required"] == ["data", "output", "learner"]


def test_a_recipe_travels_to_another_process() -> None:
    recipe = parse_recipe(CURATION)
    there = pickle.loads(pickle.dumps(recipe))  # noqa: S301  (ours)
    assert there == recipe and there.document == recipe.document and there.places == {"caption_stats": "recipe:4"}
    run = parse_learn_recipe(LEARNING)
    there = pickle.loads(pickle.dumps(run))  # noqa: S301  (ours)
    assert there == run and there.identity == run.identity and there.selection == run.selection


def test_a_recipe_is_validated_with_its_document() -> None:
    with pytest.raises(TypeError, match="parse_recipe"):
        Recipe.model_validate({"corpus": "/data", "output": "/out"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start: 0.8", "start: true", r"recipe:6: selection.filtering_ratio: .*start is true, which is not a number"),
        ("end: 0.5", "edn: 0.5", "recipe:6: unknown key edn of selection.filtering_ratio"),
        ("end: 0.5", "end: 0.5, until: 2", "recipe:6: selection.filtering_ratio: until is 2"),
        ("{lr: 0.1}", "{model: proxy-nu}", "recipe:5: online.model: unknown model"),
        ("{steps: 3}", "{model: proxy-nu}", "recipe:4: learner.*unknown model"),
    ],
)
def test_mistakes_in_nested_settings_have_their_line(old: str, new: str, message: str) -> None:
    assert old in LEARNING
    with pytest.raises(UserError, match=message):
        parse_learn_recipe(LEARNING.replace(old, new))
