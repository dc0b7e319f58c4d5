"""Scores without a snapshot: score what is missing, and read the tables of each unit.

When to use: for an analysis that decides nothing and writes no shards. The scores are those of a run of the same
recipe: committed unit by unit, resumed after a kill, and never computed twice.
Cost: the scoring; a listing, and a read of the asked columns for each unit and pass over them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.core.executor import Executor
from curation.core.local_executor import LocalExecutor
from curation.core.parallel import map_ordered
from curation.core.progress import progress
from curation.core.types import ShardRef
from curation.curating import planning, scoring_passes
from curation.curating.pipeline import Pipeline, pipeline
from curation.curating.record_spool import RecordSpool
from curation.dataset.open_shards import latest_of
from curation.ledger import score_tables
from curation.ledger.plans import Plan
from curation.recipes.curation_recipe import parse_recipe


@dataclass(frozen=True)
class ScoredUnits:
    """The scored units of a recipe's corpus."""

    work: Pipeline
    plan: Plan

    def tables(self, columns: Sequence[str], index: Sequence[str]) -> Iterator[tuple[ShardRef, pa.Table]]:
        """Yield each unit and its table, in order: columns of the index, and the values of scores under their names.

        Rows without a value (quarantined samples) have null. Shards that are set aside are left out. Memory: 256 MB of
        units ahead of the consumer, or two units.
        """
        by_name = {column.name: column for column in self.work.columns}
        aside = self.work.unreadable

        def one(shard: ShardRef) -> tuple[ShardRef, pa.Table]:
            table = score_tables.read(self.work.scored, shard, self.work.columns[0], list(index))
            for name in columns:
                values = score_tables.read(self.work.scored, shard, by_name[name], ["value"]).column("value")
                table = table.append_column(name, values)
            return shard, table

        shards = (shard for shard in self.plan.shards() if shard not in aside)
        yield from map_ordered(one, shards, weigh=lambda pair: pair[1].nbytes)


@contextmanager
def scored_units(
    data: str, folder: str, scorers: Sequence[Mapping[str, Any]], executor: Executor | None = None
) -> Iterator[ScoredUnits]:
    """Score what is missing of some scores of a dataset, and yield its units.

    data: URL of shards, or of a snapshot. folder: URL of the score tables and plans. scorers: as a recipe lists them.
    executor: where to score; by default this machine. Raises `UserError` for a mistake in the scorers,
    `IncompleteError` where shards could not be scored.
    """
    document = {"corpus": latest_of(data), "output": folder, "scores": f"{folder}/scores", "scorers": list(scorers)}
    recipe, on = parse_recipe(json.dumps(document), "scorers"), executor or LocalExecutor()
    with pipeline(recipe, executor=on) as work:
        planned = planning.make_plan(work)
        with closing(RecordSpool(work.spool / "found")) as records:
            units = planning.missing_units(work, planned, records)
        if units.num_rows:
            with progress("Scoring", None) as tick:
                scoring_passes.score_units(work, units, tick, on)
        yield ScoredUnits(work, planned)
