"""Patterns of keys: what they match, against an exhaustive search, and that a hostile one takes no longer."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services import one_line

from curation.core.errors import RecipeError
from curation.dataset.patterns import matcher


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", ["", "a.tar", "b/c.tar"], []),
        ("a/", ["a/0.tar", "a/b/0.tar"], ["b/0.tar", "a.tar"]),
        ("*.tar", ["a.tar", ".tar"], ["a/b.tar", "a.tar.gz"]),
        ("*/*.tar", ["a/b.tar"], ["b.tar", "a/b/c.tar"]),
        ("**/b.tar", ["a/b.tar"], ["a/c/b.tar"]),
        ("{00000..00012}.tar", ["00000.tar", "00012.tar"], ["00013.tar", "0.tar", "000000.tar", "-0001.tar"]),
        ("{8..12}.tar", ["8.tar", "08.tar", "12.tar"], ["7.tar", "012.tar"]),
        ("*{2..3}.tar", ["12.tar", "3.tar", "x2.tar"], ["21.tar", "4.tar"]),
        ("*{2..3}*", ["41352.tar"], ["4145.tar"]),  # any number within, not the first that is found
        ("{1..2}{3..4}", ["13", "24"], ["12", "31"]),
        ("{a,bb}/{0..9}?tar", ["a/0.tar", "bb/9xtar"], ["b/0.tar", "a/0tar"]),
        ("{a,}b", ["ab", "b"], ["a", "aab"]),
        ("*{a,ab}*{b,c}", ["abc", "xab", "aac"], ["ca", "ba/b"]),
        ("[ab]x[!c].tar", ["axd.tar", "bx].tar"], ["cxd.tar", "axc.tar"]),
        ("[]x]*[", ["]a[", "x["], ["a["]),
        ("a?b[!c].tar", ["axbx.tar"], ["a/bx.tar", "axb/.tar"]),
        ("{0..1}", ["0", "1"], ["\u0661", "\u00b9"]),
        ("a.b{,+}", ["a.b", "a.b+"], ["axb"]),
    ],
)
def test_what_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    found = matcher([pattern])
    assert [key for key in [*matching, *others] if found(key)] == matching


@given(
    st.lists(st.sampled_from(["*", "?", "a", "b", "/", "{a,ab}", "{b,}", "[ab]"]), max_size=7),
    st.text("ab/", max_size=9),
)
def test_the_same_as_a_search_of_all_ways(parts: list[str], key: str) -> None:
    words = {"*": "[^/]*", "?": "[^/]", "{a,ab}": "(?:a|ab)", "{b,}": "(?:b|)"}
    text = "".join(words.get(part) or (part if len(part) > 1 else re.escape(part)) for part in parts)
    pattern = "".join(parts)
    if pattern and not pattern.endswith("/"):
        assert matcher([pattern])(key) == bool(re.fullmatch(text, key, re.DOTALL))


def steps(pattern: str, key: str) -> int:
    """Calls of functions, of C too, in one match."""
    found, matches = 0, matcher([pattern])

    def count(*_: Any) -> None:
        nonlocal found
        found += 1

    sys.setprofile(count)
    try:
        assert not matches(key)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("part", ["*{a,aa}", "*{a}", "{a,aa}*", "*a", "*{0..9}*{a,aa}", "*[a]?*", "*{,a}"])
def test_a_hostile_pattern_takes_as_many_steps_as_it_has_parts(part: str) -> None:
    key = "a0a" * 30
    few, many = (steps(f"{part * n}!", key) for n in (20, 80))
    assert many < 5 * few and few < 20 * 30 * len(key)


def test_numbers_too_long_to_compare_are_refused() -> None:
    with pytest.raises(RecipeError, match="more than 18 digits") as caught:
        matcher([f"{{{'0' * 5000}..1}}.tar"])
    one_line(caught.value)
    assert not matcher(["[" * 100_000])("a")
