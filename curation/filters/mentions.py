"""Captions that name at least one thing of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.filters.phrases import Phrases

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class Mentions(Phrases):
    """Keep the samples whose caption mentions at least one of `entries`, as whole words, in any case.

    Use it to keep what is about the classes that one wants to know. The list stands in the recipe, or one phrase a line
    in a text file (`url`, `sha256`). A phrase is looked for between spaces, with the marks `, . ; : ? !` and the
    backtick set apart from words, so one with such a mark in it is never found. Cost: 1.5 us of CPU a caption of 10
    words with a list of 5,000, 4 us with one of 500,000.
    Source: text-based filtering of DataComp (2304.14108, section 3.3), which keeps captions with a word whose first
    WordNet sense is one of ImageNet-21k's; here the list has to name each spelling.
    Example: mentions: {url: s3://lists/names.txt, sha256: 9f2c..., ignore_case: true}
    """

    ignore_case: bool = True

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of those that mention nothing: `id`."""
        super().prepare(db)
        silent = f"SELECT id FROM alive ANTI JOIN ({self.mentioned(db)}) AS named USING (id)"
        db.execute(f"CREATE OR REPLACE TEMP TABLE {self._table}_silent AS {silent}")

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM {self._table}_silent"
