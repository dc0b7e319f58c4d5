"""Hostile recipes: whatever the text, one line with the place comes out, and nothing that takes long."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_texts import GOOD, changed
from services import one_line

from curation.core.errors import RecipeError, TutelageError
from curation.ledger.uid_lists import parse_list
from curation.recipes.curation_recipe import load_recipe, parse_recipe
from curation.recipes.learning_recipe import parse_learn_recipe
from curation.recipes.yaml_document import is_of_learning, read_recipe

RICH = changed(GOOD, "shards:", "  - any: {of: [caption: {max_words: 9}, image_size: {min_width: 5}]}\nshards:")
RICH += 'store: {endpoint: "http://127.0.0.1:9000", patience: 30}\n'
DEEP = "[" * 5000 + "]" * 5000


DIGITS = "9" * 5000


HOSTILE = {
    "deep": (f"x: {DEEP}", 1, "deeper than 64 levels"),
    "deep mapping": ("x: " + "{a: " * 5000, 1, "deeper than 64 levels"),
    "deep blocks": ("".join(f"{' ' * level}a:\n" for level in range(500)), 64, "deeper than 64 levels"),
    "integer": (f"corpus: /c\nshards: {{samples: {DIGITS}}}", 2, "5,000 digits"),
    "hexadecimal": (f"a: 0x{'f' * 5000}", 1, "digits"),
    "float": ("corpus: /c\noutput: /o\ncompute: {num_cpus: 1.0e+999}", 3, "not a finite number"),
    "long float": (f"corpus: /c\noutput: /o\ncompute: {{num_cpus: {DIGITS}.0}}", 3, "not a finite number"),
    "float as a word": ("corpus: /c\noutput: /o\ncompute: {num_cpus: 1e999}", 3, "finite number"),
    "date": ("corpus: /c\noutput: 2001-01-01", 2, "2001-01-01 is a date in YAML; put it in quotes"),
    "time": ("corpus: /c\noutput: 2001-12-14t21:59:43.10-05:00", 2, "is a date"),
    "base 60": ("corpus: /c\noutput: 1:20", 2, "a base-60 number"),
    "base 60 float": ("corpus: /c\noutput: 1:20.5", 2, "a base-60 number"),
    "binary": ("corpus: /c\noutput: !!binary aGk=", 2, "the type !!binary is not allowed"),
    "set": ("corpus: /c\noutput: !!set {a, b}", 2, "the type !!set is not allowed"),
    "omap": ("a: !!omap [a: 1]", 1, "!!omap"),
    "python": ("a: !!python/object/apply:os.system [id]", 1, "!!python/object/apply:os.system"),
    "own tag": ("a: !include /etc/shadow", 1, "the type !include is not allowed"),
    "equals sign": ("corpus: =", 1, "put it in quotes"),
    "number as key": ("corpus: /c\n1: x", 2, "the key 1 is not a string"),
    "true as key": ("corpus: /c\non: x", 2, "the key on is not a string in YAML, but bool"),
    "null as key": ("corpus: /c\n~: x", 2, "not a string"),
    "list as key": ("corpus: /c\n? [a]\n: x", 2, "a key is a list or a mapping"),
    "control character": ('corpus: /c\noutput: "a\\x1b[31m"', 2, "control character"),
    "raw control character": ("corpus: /c\noutput: a\x1b[31m", 2, "control character"),
    "NUL": ('corpus: "a\\0b"', 1, "control character"),
    "control character in a key": ('corpus: /c\n"\\x1b]0;x\\a": 1', 2, "control character"),
    "half a character": ('corpus: "\\ud800"', 1, "half of a surrogate pair"),
    "itself": ("a: &a [*a]", 1, "once its aliases are expanded"),
    "bomb": ("a: &a []\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(ascii_lowercase)), 0,
             "more than 1,000,000 values"),
    "large": ("a: " + "x" * (5 << 20), 0, "4,194,304"),
    "two documents": ("a: 1\n---\nb: 2", 2, "YAML"),
    "tab": ("a:\n\t- b", 2, "YAML"),
}  # fmt: skip

SLOW = {"bomb"}  # 6 s


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in HOSTILE])
def test_hostile_text_is_one_line_with_its_place(name: str) -> None:
    text, line, says = HOSTILE[name]
    for parse in (parse_recipe, parse_learn_recipe):
        with pytest.raises(TutelageError) as caught:
            parse(text)
        told = one_line(caught.value)
        assert told.isprintable()
        if parse is parse_recipe:
            assert says in told and (f"recipe:{line}" if line else "recipe") in told
    assert is_of_learning(text) is False


def test_words_that_look_odd_stay_words() -> None:
    recipe = parse_recipe('corpus: /c\noutput: /o😀"2001-01-01"\nscores: "1:20"\nkeep: "é\\t"')
    assert (recipe.output, recipe.scores, recipe.keep) == ('/o😀"2001-01-01"', "1:20", "é\t")
    again = parse_recipe(json.dumps({"corpus": "/c", "output": "/o😀"}))  # as of a snapshot's document
    assert again.output == "/o😀"


SPICE = ["[", "{", "}", "]", ": ", "- ", "&a ", "*a", "!!set ", "<<: ", "? ", "| ", "> ", "'", '"', "#", "%", "@", "~",
         "\n", "\t", "\0", "\x85", "\ufeff", "\ud800", "😀", ".nan", "-.inf", "1e999", "0x", "9" * 400, "on", "1:20",
         "2001-01-01", "---", "...", "=", "{a: 1}", "[1, [2]]", "null", "-1", "0", "1.5", "_", "{samples}"]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, len(RICH)), st.integers(0, 30), st.sampled_from(SPICE)), min_size=1, max_size=4)
)
def test_edited_recipes_raise_nothing_but_our_errors(edits: list[tuple[int, int, str]]) -> None:
    text = RICH
    for at, cut, spice in edits:
        text = text[:at] + spice + text[at + cut :]
    for parse in (parse_recipe, parse_learn_recipe):
        try:
            parse(text)
        except TutelageError as error:
            assert "\n" not in f"{error}{error.fix}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["caption", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["caption", "of", "name", "x"]), inner),
    max_leaves=6,
)


KEYS = ["corpus", "output", "scores", "scorers", "filters", "keep", "shards", "limits", "store", "compute", "weights"]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.lists(st.sampled_from([
    "filters.0=1", "filters.caption.min_words=x", "shards=[]", "store.patience=.nan", "scorers.0.name=1", "corpus=",
]), max_size=2))  # fmt: skip
def test_values_of_any_kind_raise_nothing_but_our_errors(document: dict[str, object], overrides: list[str]) -> None:
    try:
        parse_recipe(json.dumps({"corpus": "/c", "output": "/o", **document}), "recipe", overrides)
    except TutelageError as error:
        assert "\n" not in f"{error}{error.fix}"


def test_what_is_no_file_is_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes(b"corpus: \xe9")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "latin", tmp_path / "large", tmp_path / "none", "/dev/zero"):
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert str(path) in one_line(caught.value)
    reader, writer = os.pipe()
    os.write(writer, b"corpus: /c")
    os.close(writer)
    assert read_recipe(f"/dev/fd/{reader}") == "corpus: /c"
    os.close(reader)


@pytest.mark.parametrize("name", ["keep", "drop", "weights"])
def test_no_error_quotes_a_file_that_a_recipe_names(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_list(name, b"# ours\nroot:$6$secret:19000:0:99999:7:::\tpassword\n", "/etc/shadow")
    assert "/etc/shadow:2: " in one_line(caught.value)
    assert "root" not in one_line(caught.value) and "password" not in one_line(caught.value)
