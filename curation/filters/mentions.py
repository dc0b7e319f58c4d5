"""Captions that mention at least one phrase of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.filters.phrases import Phrases

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class Mentions(Phrases):
    """Keep the samples whose caption mentions at least one of `entries`, as whole words, in any case.

    Use it to keep samples about the classes of a target task. The list is in the recipe, or in a text file with one
    phrase a line (`url`, `sha256`). Phrases match between spaces, after the marks `, . ; : ? !` and the backtick are
    separated from words; a phrase that contains such a mark never matches.
    Cost: 1.5 us of CPU a caption of 10 words with a list of 5,000 phrases, 4 us with one of 500,000.
    Source: text-based filtering of DataComp (2304.14108, section 3.3), which keeps captions with a word whose first
    WordNet sense is one of ImageNet-21k's; here the list must contain each spelling.
    Example: mentions: {url: s3://lists/names.txt, sha256: 9f2c..., ignore_case: true}
    """

    ignore_case: bool = True

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of samples whose caption mentions no phrase: `id`."""
        super().prepare(db)
        silent = f"SELECT id FROM alive ANTI JOIN ({self.mentioned(db)}) AS named USING (id)"
        db.execute(f"CREATE OR REPLACE TEMP TABLE {self._table}_silent AS {silent}")

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM {self._table}_silent"
