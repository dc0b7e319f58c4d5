"""Words are the same to Python and to DuckDB, and are what splitting at white space gives."""

from __future__ import annotations

import re
import unicodedata

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from curation.core.words import SPACE, WORD, fold, words

UNSEEN = "\0\x01\x08\x0e\x1b\x7f\x9f\u00ad\u200b\u200d\u2060\ufe0f\ufeff"
LETTERS = st.sampled_from([*SPACE, *"aé語ひカ中ー々𠀀ß-'.", *UNSEEN])


def split(text: str) -> list[str]:
    """By the definition: split at white space; then every character of kana and Han by itself; none is unseen."""
    return [
        word
        for run in text.split()
        for word in re.split("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])", run)
        if word.strip(UNSEEN)
    ]


def test_small_letters_are_the_same_to_python_and_to_duckdb() -> None:
    old = [c for c in map(chr, range(1, 0x110000)) if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs")]
    texts = [*old, "ΟΔΟΣ ΑΣ ας", "İstanbul i̇", "STRASSE ß"]  # letters of any Unicode that either knows
    with duckdb.connect() as db:
        query = "SELECT lower(text) FROM (SELECT unnest($texts) AS text)"
        assert [row[0] for row in db.execute(query, {"texts": texts}).fetchall()] == [fold(text) for text in texts]
    assert fold("ΟΔΟΣ") == "οδοσ"


@given(st.lists(st.text(LETTERS, max_size=20), min_size=1, max_size=20))
def test_words_are_runs_without_white_space(texts: list[str]) -> None:
    wanted = [split(text) for text in texts]
    assert [re.findall(WORD, text) for text in texts] == [words(text) for text in texts] == wanted
    with duckdb.connect() as db:
        query = f"SELECT regexp_extract_all(text, '{WORD}') FROM (SELECT unnest($texts) AS text)"
        assert [row[0] for row in db.execute(query, {"texts": texts}).fetchall()] == wanted


def test_a_caption_without_anything_to_see_has_no_words() -> None:
    texts = ["\0" * 50, "\0 \u200b \ufeff", "\x1b\x7f\x80", "\u200b", "\0a", "e\u200dx", "\0" * 1_000_000]
    counts = [0, 0, 0, 0, 1, 1, 0]
    assert [len(words(text)) for text in texts] == counts
    with duckdb.connect() as db:
        query = f"SELECT len(regexp_extract_all(text, '{WORD}')) FROM (SELECT unnest($texts) AS text)"
        assert [row[0] for row in db.execute(query, {"texts": texts}).fetchall()] == counts
