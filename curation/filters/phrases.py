"""Where captions mention the phrases of a long list: what `metaclip_balance` and `mentions` share.

A phrase is mentioned where it stands between spaces, after the marks `, . ; : ? !` and the backtick have been given
spaces of their own and tabs and line breaks have become spaces: the rule of MetaCLIP's published code
(substr_matching.py), to the letter. So a caption's runs of words are looked up in the table of phrases, and from each
word on only runs as long as some phrase that begins with that word. Cost: one hash lookup a word and one a run (some
15 us a caption of 10 words against 500,000 phrases), whatever the number of phrases, which are held in memory (about
100 bytes each); captions stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.models.weights import Weights, fetch_weights

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """A list of phrases: `entries` in the recipe, or a text file at `url` with its `sha256`, one a line."""

    entries: tuple[str, ...] = ()
    url: str | None = None
    sha256: str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if bool(self.entries) == bool(self.url):
            raise ValueError("give entries, or the url and sha256 of a file with one a line")
        self.files()

    def files(self) -> Sequence[Weights]:
        return (Weights(self.url, self.sha256 or ""),) if self.url else ()

    def columns(self) -> Sequence[str]:
        return ("caption",)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the tables of phrases, and of the lengths that those which begin with a word have."""
        lines = self._lines()
        db.register("incoming", pa.table({"text": pa.array(lines, pa.string())}))
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table} AS
            SELECT text, row_number() OVER (ORDER BY text)::INTEGER AS entry
            FROM (SELECT DISTINCT {self._cased("text")} AS text FROM incoming)""")
        db.unregister("incoming")
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {self._table}_lengths AS
            SELECT split_part(text, ' ', 1) AS word, list(DISTINCT len(string_split(text, ' '))) AS lengths
            FROM {self._table} GROUP BY 1""")

    def mentioned(self) -> str:
        """SQL of `id, entry`: which phrase (by its number) the captions of `alive` mention; as often as they do."""
        text = f"translate({self._cased('caption')}, chr(9) || chr(10) || chr(13), '   ')"
        spaced = rf"regexp_replace({text}, '([,.;:?!`])', ' \1 ', 'g')"
        return f"""
            SELECT id, entry FROM (
                SELECT id, array_to_string(w[i:i + n - 1], ' ') AS text FROM (
                    SELECT id, w, i, unnest(lengths) AS n FROM (
                        SELECT id, w, i, w[i] AS word FROM (
                            SELECT id, w, unnest(range(1, len(w) + 1)) AS i
                            FROM (SELECT id, string_split({spaced}, ' ') AS w FROM alive)
                        )
                    ) JOIN {self._table}_lengths USING (word)
                ) WHERE i + n - 1 <= len(w)
            ) JOIN {self._table} USING (text)"""

    def _lines(self) -> list[str]:
        if self.entries:
            return [entry for entry in self.entries if entry.strip()]
        (file,) = self.files()
        lines = fetch_weights(file).read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _cased(self, sql: str) -> str:
        return f"lower({sql})" if self.ignore_case else sql

    @property
    def _table(self) -> str:
        return f"phrases_{sha256(repr(astuple(self)).encode()).hexdigest()[:16]}"
