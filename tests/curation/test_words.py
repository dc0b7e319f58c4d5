"""Words are the same to Python and to DuckDB, and are what splitting at white space gives."""

from __future__ import annotations

import re
import unicodedata

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from curation.words import SPACE, WORD, fold

LETTERS = st.sampled_from([*SPACE, *"aé語ひカ中ー々𠀀ß-'.\u200b\u2060\ufeff"])


def split(text: str) -> list[str]:
    """By the definition: split at white space; then every character of kana and Han by itself."""
    return [
        word
        for run in text.split()
        for word in re.split("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])", run)
        if word
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
    assert [re.findall(WORD, text) for text in texts] == wanted
    with duckdb.connect() as db:
        query = f"SELECT regexp_extract_all(text, '{WORD}') FROM (SELECT unnest($texts) AS text)"
        assert [row[0] for row in db.execute(query, {"texts": texts}).fetchall()] == wanted
