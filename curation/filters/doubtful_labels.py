"""The samples whose labels are most doubtful: the queue of a label cleaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from curation.core.distributions import AMBIGUOUS
from curation.core.ranges import check_count, check_seed
from curation.filters.filter import table_of
from curation.filters.hash_uniform import hash_uniform
from curation.filters.rank_cut import below_rank
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb

By = Literal["active", "error", "margin", "disagreement", "graph", "random", "oracle"]


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabels:
    """Keep the `count` samples whose labels are most doubtful, by a priority; ties go to the smaller uid.

    q is the distribution of a sample's label, p that of the proxy, K the number of classes; logarithms are to base K.
    `by` names the priority, the highest first:

    `active`: CE(q, p) - max(0, H(p) - 0.30), from the columns `error` and `ambiguity`. A picture that is hard for
    anybody comes later, because people don't agree on it either. Source: 2109.00574, equation 3.
    `error`: CE(q, p) alone.
    `margin`: the probability of the best other class minus that of the label. Source: Confident Learning (1911.00068).
    `disagreement`: BALD, H(mean of p) - mean of H(p) over the runs of the proxy. Source: 1112.5745, equation 2.
    `graph`: CE(q, p) where p are the labels of similar pictures, by diffusion over the column `embedding`; needs the
    column `label` and no proxy. See `filters/label_diffusion.py`. Source: 1904.04717, section 3.
    `random`: a hash of seed and uid; the baseline.
    `oracle`: labels that differ from the column `truth` first; for simulations, where the truth is known.

    The columns are those of the scorers `label_error`, `label_ambiguity`, `label_margin`, `label_disagreement`,
    `label` and `embedding`; only those that `by` needs are read. Samples without a priority (no label, an unknown
    class) have been quarantined with a reason by their scorer, except by `random`, `graph` and `oracle`.
    Cost: 0.1 us of CPU a sample for the query of a queue (`random`: 1 us), 1 us for the cut, out of core; `graph`:
    16,384 D multiply-adds a sample at most.
    Example: doubtful_labels: {by: active, count: 2000}
    """

    count: int
    by: By = "active"
    error: str = "label_error"
    ambiguity: str = "label_ambiguity"
    margin: str = "label_margin"
    disagreement: str = "label_disagreement"
    label: str = "label"
    truth: str = "truth"
    embedding: str = "embedding"
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("count", self.count, "it is the number of samples in the queue", least=1)
        check_seed(self.seed)

    def columns(self) -> Sequence[str]:
        read: dict[By, Sequence[str]] = {
            "active": (self.error, self.ambiguity),
            "error": (self.error,),
            "margin": (self.margin,),
            "disagreement": (self.disagreement,),
            "graph": (self.label, self.embedding),
            "random": (),
            "oracle": (self.label, self.truth),
        }
        return read[self.by]

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the view of priorities, and for `graph` its table. It stays valid while `alive` has the same rows."""
        if self.by == "graph":
            self._diffuse(db)
        source = f"alive JOIN {self._table}_graph AS graph USING (id)" if self.by == "graph" else "alive"
        db.execute(f"""
            CREATE OR REPLACE VIEW {self._table} AS
            SELECT alive.id, alive.uid, ({self._priority()})::DOUBLE AS priority FROM {source}""")

    def priorities(self) -> str:
        """SQL that selects `id, uid, priority` (DOUBLE) of every row of `alive`, each once; call `prepare` before.

        A review queue is one query: SELECT uid FROM ({filter.priorities()}) ORDER BY priority DESC, uid LIMIT 2000.
        The priorities don't depend on `count`.
        """
        return f"SELECT id, uid, priority FROM {self._table}"

    def drops(self) -> str:
        return below_rank("priority", str(self.count), "", rows=self._table)

    def _priority(self) -> str:
        """SQL of a row's priority."""
        formulas: dict[By, str] = {
            "active": f'alive."{self.error}"::DOUBLE - greatest(0, alive."{self.ambiguity}"::DOUBLE - {AMBIGUOUS})',
            "error": f'alive."{self.error}"',
            "margin": f'alive."{self.margin}"',
            "disagreement": f'alive."{self.disagreement}"',
            "graph": "graph.doubt",
            "random": hash_uniform(self.seed, "doubtful_labels"),
            "oracle": f'(alive."{self.label}" <> alive."{self.truth}")::INTEGER',
        }
        return formulas[self.by]

    def _diffuse(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of the graph's doubts: `id`, `doubt`."""
        from curation.filters.label_diffusion import doubts

        db.execute(f"CREATE OR REPLACE TABLE {self._table}_graph (id BIGINT, doubt DOUBLE)")
        for ids, doubt in doubts(db, self.embedding, self.label, self.seed, self._table):
            insert(db, f"{self._table}_graph", pa.table({"id": ids, "doubt": doubt}))

    @property
    def _table(self) -> str:
        return table_of(self, "doubtful")
