"""What workers score and how, the counts of their calls, and the commit of a unit's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from curation.core.errors import locating
from curation.curating.scoring.efficiency import StageSeconds
from curation.ledger import score_tables, unit_collector
from curation.ledger.ledger import Ledger
from curation.recipes.curation_recipe import Compute
from curation.scorers import HeaderCheckingScorer, Scorer, reads_of
from curation.shards.contents import FIELD
from curation.shards.images import DecodeLimits, Preprocess
from curation.shards.unit_reader import UnitReader, view_column
from curation.storage.store import Store, StoreOptions


@dataclass(frozen=True)
class ScoringTask:
    """What to score and how. Every worker receives it."""

    corpus: Store
    scored: Ledger
    index: score_tables.Column
    columns: Sequence[score_tables.Column]  # one a scorer, in the order of `scorers`
    scorers: Mapping[str, Scorer]
    limits: DecodeLimits
    compute: Compute
    caption: str = ""  # where captions stand, as the recipe's `input` names it
    unchecked: Mapping[str, str] = field(default_factory=dict)  # scorer -> its place in the recipe, to check its files

    @property
    def views(self) -> list[Preprocess]:
        """The distinct ways in which the scorers want images prepared."""
        wanted = (view for scorer in self.scorers.values() for view in scorer.views())
        return list({view_column(view): view for view in wanted}.values())

    @property
    def reads(self) -> list[str]:
        """The distinct columns that the scorers read: of the index, or `json.<field>`."""
        return list(dict.fromkeys(name for scorer in self.scorers.values() for name in reads_of(scorer)))

    @property
    def all_columns(self) -> list[score_tables.Column]:
        return [self.index, *self.columns]

    def reader(self) -> UnitReader:
        fields = [name.removeprefix(FIELD) for name in self.reads if name.startswith(FIELD)]
        return UnitReader(self.corpus, self.limits, self.views, self.caption, fields=fields)


@dataclass
class CallProgress:
    """Counts of one call: samples and units committed, data puts, batches through the models, failed units, lines about
    samples that were set aside, and where the worker's time went."""

    samples: int = 0
    units: int = 0
    puts: int = 0
    batches: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    aside: tuple[str, ...] = ()
    seconds: StageSeconds = field(default_factory=StageSeconds, compare=False)


def check_scorers(scorers: Mapping[str, Scorer], places: Mapping[str, str], options: StoreOptions) -> None:
    """Raise `PinnedFileError` for a file that does not fit its scorer, by the file's header. `places`: file:line."""
    for name, scorer in scorers.items():
        if isinstance(scorer, HeaderCheckingScorer):
            with locating(f"{places[name]}: scorer {name}"):
                scorer.check(options)


def commit(job: ScoringTask, unit: unit_collector.ScoredUnit, wanted: Sequence[str]) -> None:
    """Commit the tables of a unit that are wanted; of those that others commit meanwhile, the first record wins."""
    if job.index.name in wanted:
        score_tables.commit_index(job.scored, unit.shard, job.index, unit.rows, unit.reason, unit.detail)
    for column in job.columns:
        if column.name in wanted:
            values = unit.rows.column(f"score:{column.name}")
            reasons = unit.rows.column(f"aside:{column.name}").to_pylist()
            poison = {row: reason for row, reason in enumerate(reasons) if reason is not None}
            score_tables.commit_score(job.scored, unit.shard, column, unit.rows.column("uid"), values, poison)
