"""The recipe: what is valid, and that every mistake is one line with the file's line and the fix."""

from __future__ import annotations

import pytest

from curation.core.digest import digest
from curation.core.errors import (
    RecipeError,
    UserError,
)
from curation.filters.caption import Caption
from curation.filters.named import described
from curation.filters.threshold import Threshold
from curation.recipes.curation_recipe import parse_recipe

SHA = "ab" * 32


GOOD = f"""
corpus: /data/{{00000..00003}}.tar
output: /out
scorers:
  - clip_score: {{model: proxy-mu, weights: /w.safetensors, sha256: {SHA}}}
  - embedding: {{model: proxy-mu, weights: /w.safetensors, sha256: {SHA}}}
filters:
  - caption: {{min_words: 2}}
  - top_fraction: {{score: clip_score, fraction: 0.3}}
shards: {{samples: 1000}}
"""


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


def test_limits_name_formats_and_backgrounds_that_there_are() -> None:
    for change, said in (("formats: [jpg]", "'jpg' is not a format"), ("background: green", "background")):
        with pytest.raises(RecipeError, match=said):
            parse_recipe(GOOD + f"limits: {{{change}}}\n")


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
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        recipe = parse_recipe(GOOD.replace(old, new, 1))
        recipe.columns  # noqa: B018 -- fingerprints look the model up
    line = f"{caught.value} -- {caught.value.fix}"
    assert "\n" not in line
    assert where in line
    assert hint in line


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


def test_a_section_whose_lines_are_all_commented_out_is_as_if_it_were_not_there() -> None:
    empty, without = parse_recipe(GOOD + "compute:\nlimits:\n"), parse_recipe(GOOD)
    assert empty == without and empty.sha256 == without.sha256
    assert parse_recipe("corpus: /a\noutput: /b\nfilters:\nscorers:\n").filters == []


def test_overrides_of_entries_that_are_called_alike() -> None:
    """By its own name, or by its number; never silently the first."""
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
    with pytest.raises(UserError, match=words) as error:
        parse_recipe(NESTED.replace(was, is_))
    assert "\n" not in str(error.value) and "recipe" in str(error.value)


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
