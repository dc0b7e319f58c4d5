"""MetaCLIP's balancing: captions about frequent entries are thinned, captions about rare ones are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.core.ranges import check_count, check_seed
from curation.filters.hash_uniform import hash_uniform
from curation.filters.phrases import Phrases

if TYPE_CHECKING:
    import duckdb

_FIXED = 1 << 40  # logarithms are summed as integers in units of 1 / _FIXED


@dataclass(frozen=True, kw_only=True)
class MetaclipBalance(Phrases):
    """Keep a sample with probability 1 - prod(1 - min(1, t / count)) over the entries that its caption mentions.

    `count` is the number of captions, among those that reach this filter, that mention the entry. So all samples of an
    entry with up to `t` mentions are kept, and about `t` samples of a more frequent one. Reasons: `no_match` for a
    caption that mentions no entry, `capped` for a sample that was not drawn. The entries are in the recipe (`entries`),
    or in a text file with one a line (`url`, `sha256`). The paper uses 500,000: WordNet's synsets and Wikipedia's
    frequent words, pairs of words and titles, with t = 20,000 for 400 million samples kept. Entries match between
    spaces, after the marks `, . ; : ? !` and the backtick are separated from words, in the same case unless
    `ignore_case`. The draw is a hash of seed and uid: it is the same on every machine, and a larger `t` keeps all
    samples that a smaller one keeps.
    Cost: about 7 us of CPU a caption of 10 words with 500,000 entries, and 12 bytes of local disk a mention; out of
    core.
    Source: MetaCLIP (2309.16671), section 3 and algorithm 1, whose draw for each mention has this probability.
    Example: metaclip_balance: {url: s3://lists/metadata.txt, sha256: 9f2c..., t: 20000}
    """

    t: int
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("t", self.t, "it is the number of mentions up to which all samples of an entry are kept", least=1)
        check_seed(self.seed)

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of samples that mention an entry: `id`, and `missing`, -log of the probability of a drop.

        Logarithms are summed as integers, because a sum of floats depends on the order of DuckDB's threads.
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
            WHERE NOT chances.certain AND {hash_uniform(self.seed, "metaclip_balance")} >= 1 - exp(-chances.missing)"""
