"""Matches of captions with the phrases of a long list, for `metaclip_balance` and `mentions`.

A phrase matches between spaces, after spaces are put around the marks `, . ; : ? !` and the backtick, and tabs and line
breaks are replaced by spaces: exactly the rule of MetaCLIP's published code (substr_matching.py). Each word of a
caption is looked up in the table of phrases, and so are runs of words, but only those as long as a phrase that begins
with the same two words.

Cost: two hash lookups a word, and one a run that begins like a phrase (4 us of CPU a caption of 10 words against
500,000 phrases), whatever the number of phrases. The phrases are in memory, about 100 bytes each. Captions stream; one
caption takes memory in proportion to its words times those of the longest phrase.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from curation.core.errors import RecipeError
from curation.filters.filter import table_of
from curation.storage.pinned_file import PinnedFile

if TYPE_CHECKING:
    import duckdb

MARKS = ",.;:?!`"


@dataclass(frozen=True)
class PhraseFile(PinnedFile):
    """A text file with one phrase a line, in UTF-8. Its name may have any suffix."""

    folder: ClassVar[str] = "phrases"
    suffix: ClassVar[str] = ".txt"


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """A list of phrases: `entries` in the recipe, or a text file at `url` with its `sha256`, one phrase a line.

    White space at either end of a phrase is ignored.
    """

    code: ClassVar[int] = 2

    entries: tuple[str, ...] = ()
    url: str | None = None
    sha256: str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if bool(self.entries) == bool(self.url):
            raise ValueError("give either entries, or the url and sha256 of a file with one entry a line")
        if self.entries and not any(entry.strip() for entry in self.entries):
            raise ValueError("all entries are empty; name at least one phrase")
        self.files()

    def files(self) -> Sequence[PhraseFile]:
        return (PhraseFile(self.url, self.sha256 or ""),) if self.url else ()

    def columns(self) -> Sequence[str]:
        return ("caption",)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of phrases, and the table of the lengths of phrases that begin with the same two words."""
        lines = self._lines()
        db.register("incoming", pa.table({"text": pa.array(lines, pa.string())}))
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table} AS
            SELECT text, row_number() OVER (ORDER BY text)::INTEGER AS entry, len(string_split(text, ' ')) AS words
            FROM (SELECT DISTINCT {self._cased("text")} AS text FROM incoming)""")
        db.unregister("incoming")
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table}_lengths AS
            SELECT array_to_string(string_split(text, ' ')[:2], ' ') AS pair, list(DISTINCT words) AS lengths
            FROM {self._table} WHERE words > 1 GROUP BY 1""")

    def mentioned(self, db: duckdb.DuckDBPyConnection, *, once: bool = False) -> str:
        """SQL of `id, entry`: the number of each phrase that each caption of `alive` mentions.

        A row a mention; with `once`, a row for each phrase of a caption. Then the words of a caption are deduplicated
        before the lookup, because removing duplicates afterwards would need a sort over all captions.
        """
        spaced = self._cased("caption")
        for white in (9, 10, 13):
            spaced = f"replace({spaced}, chr({white}), ' ')"
        for mark in MARKS:
            spaced = f"replace({spaced}, '{mark}', ' {mark} ')"
        captions = f"SELECT id, string_split({spaced}, ' ') AS w FROM alive"
        phrases = f"SELECT text, entry FROM {self._table} WHERE words"
        found = f"""
            SELECT id, entry FROM (SELECT id, unnest({"list_distinct(w)" if once else "w"}) AS text FROM ({captions}))
            JOIN ({phrases} = 1) USING (text)"""
        lengths = [n for (n,) in db.execute(f"SELECT DISTINCT words FROM {self._table} WHERE words > 1").fetchall()]
        if not lengths:
            return found
        # A row a word with its successors, not with the caption's whole list, which would be copied for each word.
        following = ", ".join(f"unnest(w[{n}:]) AS w{n}" for n in range(1, max(lengths) + 1))
        runs = " ".join(f"WHEN {n} THEN {_run(n)}" for n in sorted(lengths))
        return f"""{found}
            UNION ALL
            SELECT {"DISTINCT" if once else ""} id, entry FROM (
                SELECT id, CASE n {runs} END AS text FROM (
                    SELECT *, unnest(lengths) AS n FROM (
                        SELECT *, {_run(2)} AS pair FROM (SELECT id, {following} FROM ({captions}))
                    ) JOIN {self._table}_lengths USING (pair)
                )
            ) JOIN ({phrases} > 1) USING (text)"""

    def _lines(self) -> list[str]:
        lines: Sequence[str] = self.entries
        for file in self.files():
            lines = re.split(r"\r\n|\r|\n", _text(file.fetch().read_bytes(), file.url))
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise RecipeError(f"{self.url} has no phrases", fix="write one phrase a line into the file")
        return found

    def _cased(self, sql: str) -> str:
        return f"lower({sql})" if self.ignore_case else sql

    @property
    def _table(self) -> str:
        return table_of(self, "phrases")


def _text(data: bytes, url: str) -> str:
    """Decode a file without its byte order mark. Raises `RecipeError`, with the line, for bytes that are not UTF-8."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{url}:{line}: the list is not UTF-8", fix="convert it with iconv -t UTF-8") from None


def _run(n: int) -> str:
    """SQL of the text of n successive words; NULL where the caption ends earlier."""
    return " || ' ' || ".join(f"w{place}" for place in range(1, n + 1))
