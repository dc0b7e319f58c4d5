"""The recipe: what is valid, and that every mistake is one line with the file's line and the fix."""

from __future__ import annotations

import pytest
from recipe_texts import GOOD, SHA, changed, expect_mistake

from curation.core.errors import (
    RecipeError,
)
from curation.recipes.curation_recipe import parse_recipe


def test_a_good_recipe() -> None:
    recipe = parse_recipe(GOOD)
    assert [column.name for column in recipe.columns] == ["index", "clip_score", "embedding"]
    assert len(set(recipe.fingerprints.values())) == 3
    assert recipe.scores == "/out/scores"
    assert recipe.shards.samples == 1000


def test_fingerprints_follow_what_decides_values() -> None:
    base = parse_recipe(GOOD).fingerprints
    assert parse_recipe(GOOD.replace("/w.safetensors", "/elsewhere.safetensors")).fingerprints == base
    assert parse_recipe(GOOD.replace("fraction: 0.3", "fraction: 0.2")).fingerprints == base
    other = parse_recipe(GOOD.replace(SHA, "cd" * 32)).fingerprints
    assert other["clip_score"] != base["clip_score"]
    assert other["index"] == base["index"]
    limits = parse_recipe(GOOD + "limits: {max_pixels: 100}\n").fingerprints
    assert not set(limits.values()) & set(base.values())
    for change in ("background: black", "auto_orient: true", "formats: [jpeg]"):
        assert not set(parse_recipe(GOOD + f"limits: {{{change}}}\n").fingerprints.values()) & set(base.values())


def test_edit_lists_are_one_url_several_or_a_mapping() -> None:
    for text, lists in (("a", ("a",)), ("[a, b]", ("a", "b")), ("{lists: [a, b]}", ("a", "b"))):
        recipe = parse_recipe(f"{GOOD}edits: {text}\n")
        assert recipe.edit_lists == lists and not recipe.last_wins
    assert parse_recipe(GOOD + "edits: {lists: a, order: last_wins}\n").last_wins
    assert parse_recipe(GOOD).edit_lists == ()
    assert parse_recipe(GOOD + "edits: [a]\n").fingerprints == parse_recipe(GOOD).fingerprints


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "edits.lists"),
        ("[1]", "edits"),
        ("{order: last_wins}", "edits.lists"),
        ("{lists: [a], order: first}", "edits.order"),
        ("{list: [a]}", "list"),
        ("7", "edits"),
    ],
)
def test_mistakes_in_edits_name_the_line(text: str, says: str) -> None:
    expect_mistake(lambda: parse_recipe(f"{GOOD}edits: {text}\n"), "recipe:11", says)


MISTAKES = [
    ("output: /out", "outptu: /out", "recipe:3", "output"),
    ("top_fraction:", "top_fracton:", "recipe:9", "top_fraction"),
    ("clip_score: {model", "clip_scor: {model", "recipe:5", "clip_score"),
    ("fraction: 0.3", "fractoin: 0.3", "recipe:9", "fraction"),
    ("min_words: 2", "min_words: two", "recipe:8", "integer"),
    ("score: clip_score,", "score: clip_scroe,", "recipe:9", "clip_score"),
    ("fraction: 0.3", "fraction: 3", "recipe:9", "share"),
    (f", sha256: {SHA}}}\n  - emb", "}\n  - emb", "recipe:5", "sha256"),
    ("corpus: /data/{00000..00003}.tar", "", "recipe", "corpus"),
    ("shards: {samples: 1000}", "shards: {sample: 1000}", "recipe:10", "samples"),
    ("shards: {samples: 1000}", "shards: {samples: 0}", "recipe:10", "1"),
    ("filters:", "filters: [", "recipe", "YAML"),
    ("- embedding:", "- clip_score:", "recipe:6", "name"),
    ("proxy-mu, weights", "proxy-nu, weights", "", "proxy-mu"),
    ("fraction: 0.3", "fraction: .inf", "recipe:9", "not a finite number"),
    ("- embedding: {", "- embedding: {name: CLIP_score, ", "recipe:6", "two columns are called CLIP_score"),
    ("- embedding: {", "- embedding: {name: weight, ", "recipe:6", "two columns are called weight"),
    (
        "- embedding: {",
        "- learnability: {reference: {modle: proxy-mu}, ",
        "recipe:6",
        "unknown key modle of learnability.reference",
    ),
    (
        "caption: {min_words: 2}",
        "decontaminate: {against: /e, hash: content_hash}",
        "recipe:8",
        "content_hash is not a hash",
    ),
    ("caption: {min_words: 2}", "any: {of: [caption]}", "recipe:8", "not 'caption'"),
    ("caption: {min_words: 2}", "any: {of: [{captoin: {}}]}", "recipe:8: unknown filter captoin", "mean caption?"),
    (
        "caption: {min_words: 2}",
        "not:\n      of:\n      - image_size: {}\n      - caption:\n          min_wrods: 2",
        "recipe:12: unknown key min_wrods of caption",
        "did you mean min_words?",
    ),
    (
        "caption: {min_words: 2}",
        "any: {of:\n      [{all: {of: [{caption: {min_words: two}}]}}]}",
        "recipe:9: min_words",
        "integer",
    ),
    (
        "caption: {min_words: 2}",
        "any: {of: [{mentions: {url: a, sha256: x}}]}",
        "recipe:8: mentions: ",
        "64 lower-case",
    ),
    ("caption: {min_words: 2}", "one_of: {column: uid, values: [a]}", "recipe:8", "for the engine -- of the index"),
    ("caption: {min_words: 2}", "one_of: {column: members, values: [a]}", "recipe:8", "for the engine"),
    ("caption: {min_words: 2}", "not: {of: [{budget: {samples: 1, score: row}}]}", "recipe:8", "for the engine"),
    ("caption: {min_words: 2}", f"boilerplate: {{most: {10**42}}}", "recipe:8", "at most 9,223"),
    ("caption: {min_words: 2}", f"not: {{of: [{{budget: {{samples: {10**20}}}}}]}}", "recipe:8", "at most 9,223"),
    ("caption: {min_words: 2}", "threshold: {score: clip_score, min: 1.0e+39}", "recipe:8", "3.4e+38"),
    (
        "caption: {min_words: 2}",
        "threshold: {score: clip_score, min: 5, max: 1}",
        "recipe:8",
        "would be kept",
    ),
    ("score: clip_score,", "score: format,", "recipe:9", "format is not a number -- numbers here: "),
    ("score: clip_score,", "score: embedding,", "recipe:9", "embedding is not a number"),
    ("caption: {min_words: 2}", "exact_duplicates: {prefer: caption}", "recipe:8", "caption is not a number"),
    ("caption: {min_words: 2}", "soft_cap: {column: embedding, cap: 3}", "recipe:8", "embedding is a vector"),
    ("caption: {min_words: 2}", "caption: {min_words: true}", "recipe:8", "min_words is true, which is not a number"),
    (
        "caption: {min_words: 2}",
        "any: {of: [{threshold: {score: clip_score, min: false}}]}",
        "recipe:8",
        "min is false",
    ),
    (
        "shards: {samples: 1000}",
        "shards: {samples: true}",
        "recipe:10: shards.samples",
        "is true, which is not a number",
    ),
    ("caption: {min_words: 2}", "near_duplicates: {hash: width}", "recipe:8", "width is not a hash of images"),
    ("caption: {min_words: 2}", "one_of: {column: clip_score, values: [a]}", "recipe:8", "another value for each"),
    ("caption: {min_words: 2}", "one_of: {column: format, values: [png, 1]}", "recipe:8", "put it in quotes"),
    ("- embedding: {", "- content_hash: {", "recipe:6: content_hash needs no scorer", "remove it"),
    ("shards: {samples: 1000}", "compute: {memory: lots}", "recipe:10: compute.memory", "such as 2GB or 80%"),
    ("shards: {samples: 1000}", "compute: {memory: 1KB}", "recipe:10: compute.memory", "too little"),
    (
        "shards: {samples: 1000}",
        "store: {endpoint: 'http://0xA9FEA9FE'}",
        "recipe:10: store.endpoint",
        "cloud metadata service",
    ),
    ("- embedding: {", "- embedding: {name: kept, ", "recipe:6", "two columns are called kept"),
    (
        "top_fraction: {",
        "caption: {min_words: 3}\n  - top_fraction: {",
        "recipe:9: two filters are called caption",
        "recipe:8 --",
    ),
    ("- embedding: {", "- embedding: {name: shard_key, ", "recipe:6", "two columns are called shard_key"),
]


@pytest.mark.parametrize(("old", "new", "where", "hint"), MISTAKES, ids=[new or "missing" for _, new, _, _ in MISTAKES])
def test_each_mistake_is_one_line_with_the_fix(old: str, new: str, where: str, hint: str) -> None:
    text = changed(GOOD, old, new)
    expect_mistake(lambda: parse_recipe(text).columns, where, hint)  # fingerprints look the model up


def test_a_section_whose_lines_are_all_commented_out_is_as_if_it_were_not_there() -> None:
    empty, without = parse_recipe(GOOD + "compute:\nlimits:\n"), parse_recipe(GOOD)
    assert empty == without and empty.sha256 == without.sha256
    assert parse_recipe("corpus: /a\noutput: /b\nfilters:\nscorers:\n").filters == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "filters: []\n", "recipe:11: not valid YAML: the key filters is repeated; it is first in line 7"),
        (
            GOOD.replace("{min_words: 2}", "{min_words: 3, min_words: 2}"),
            "recipe:8: .*the key min_words is repeated; it is first in line 8",
        ),
        (GOOD + "compute: {<<: {a: 1}, <<: {b: 2}}\n", "recipe:11: unknown key a of compute"),
        (GOOD + "compute: &a [*a]\n", "recipe:11: not valid YAML: the document has more than"),
    ],
)
def test_what_yaml_passes_over_is_a_mistake(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe(text)


def test_no_code_in_a_recipe() -> None:
    with pytest.raises(RecipeError):
        parse_recipe("corpus: !!python/object/apply:os.system ['true']\noutput: /o\n")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0", "greater than 0"),
        (".nan", "not a finite"),
        ("1.0e9", "less than or equal to 86400"),
        ("true", "not a number"),
    ],
)
def test_a_recipe_says_how_long(given: str, says: str) -> None:
    text = "corpus: /c\noutput: /o\nstore:\n  patience: {}\n"
    assert parse_recipe(text.format(600)).options.patience == 600
    assert parse_recipe("corpus: /c\noutput: /o\n").options.patience == 120
    with pytest.raises(RecipeError, match=f"recipe:4: store.patience.*{says}"):
        parse_recipe(text.format(given))
