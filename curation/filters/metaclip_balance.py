"""MetaCLIP's balancing: what everybody writes about is thinned, what few write about stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.core.ranges import check_count, check_seed
from curation.filters.draw import draw
from curation.filters.phrases import Phrases

if TYPE_CHECKING:
    import duckdb

_FIXED = 1 << 40  # parts of 1 that logarithms are counted in


@dataclass(frozen=True, kw_only=True)
class MetaclipBalance(Phrases):
    """Keep a sample with probability 1 - prod(1 - min(1, t / count)) over the entries that its caption mentions.

    `count` is how many of the captions that reach this filter mention the entry, so an entry of up to `t` mentions
    keeps them all, and a frequent one brings in about `t` samples; captions that mention none leave (`no_match`), the
    unlucky ones as `capped`. `entries` stand in the recipe, or one a line in a text file (`url`, `sha256`): WordNet's
    synsets and Wikipedia's frequent words, pairs of words and titles in the paper, 500,000 of them, with t = 20,000 for
    400 million samples kept. An entry is looked for between spaces, with the marks `, . ; : ? !` and the backtick set
    apart from words, in the same case unless `ignore_case`. Chance is a hash of seed and uid: the same samples
    everywhere, and a larger `t` keeps all that a smaller one did. Cost: some 7 us of CPU a caption of 10 words with
    500,000 entries, and 12 bytes a mention on local disk; out of core.
    Source: MetaCLIP (2309.16671), section 3 and algorithm 1, whose one draw for each mention has this probability.
    Example: metaclip_balance: {url: s3://lists/metadata.txt, sha256: 9f2c..., t: 20000}
    """

    t: int
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("t", self.t, "it is how many samples of an entry all stay", least=1)
        check_seed(self.seed)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of the samples that mention anything: `id`, and `missing`, -log of the chance to be dropped.

        Logarithms are added as integers, for sums of floats would depend on the order in which threads come to them.
        """
        super().prepare(db)
        make, name = "CREATE OR REPLACE TEMP TABLE", self._table
        db.execute(f"{make} {name}_mentions AS {self.mentioned(db, once=True)}")
        db.execute(f"""
            {make} {name}_matched AS
            WITH shares AS (SELECT entry, {self.t} / count(*) AS p FROM {name}_mentions GROUP BY entry)
            SELECT id, bool_or(p >= 1) AS certain,
                   sum(CASE WHEN p < 1 THEN round(-ln(1 - p) * {_FIXED})::BIGINT ELSE 0 END) / {_FIXED} AS missing
            FROM {name}_mentions JOIN shares USING (entry) GROUP BY id""")
        db.execute(f"DROP TABLE {name}_mentions")

    def drops(self) -> str:
        return f"""
            SELECT id, 'no_match' AS detail FROM alive ANTI JOIN {self._table}_matched USING (id)
            UNION ALL
            SELECT id, 'capped' AS detail FROM alive JOIN {self._table}_matched AS chances USING (id)
            WHERE NOT chances.certain AND {draw(self.seed, "metaclip_balance")} >= 1 - exp(-chances.missing)"""
