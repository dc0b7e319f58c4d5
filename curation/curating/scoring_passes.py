"""Score the units that lack tables, in passes, until none is missing or a pass achieves nothing.

A pass hands units to `scoring.dispatch`; between passes the store is asked which tables are still missing, one small
GET a unit and column. Shards that the store refuses for good are set aside where the recipe allows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa

from curation.core.errors import IncompleteError
from curation.core.executor import Executor
from curation.core.progress import Tick
from curation.curating.pipeline import Pipeline
from curation.curating.planning import lacked_columns, no_units, without_tables
from curation.curating.scoring import dispatch
from curation.curating.scoring.batches import shard_refs
from curation.curating.scoring.scoring_task import ScoringTask, check_scorers
from curation.ledger import unreadable

MAX_PASSES = 5  # that score something before the run gives up on the rest


def score_units(work: Pipeline, units: pa.Table, tick: Tick, executor: Executor) -> None:
    """Score `units` until nothing is missing. Raises `IncompleteError` when a pass scores nothing of what is left."""
    failures: list[tuple[str, str]] = []
    for _ in range(MAX_PASSES):
        failures, done = [], 0
        for progress in dispatch.score(scoring_task(work, lacked_columns(units)), units, executor):
            tick(progress.samples)
            done += progress.units
            work.counts.samples_scored += progress.samples
            work.counts.units_scored += progress.units
            work.counts.score_puts += progress.puts
            work.counts.model_batches += progress.batches
            work.stages.add(progress.seconds)
            failures.extend(progress.failures)
        if done == units.num_rows:  # all were committed just now: the store need not be asked
            units = no_units()
            break
        units = without_tables(work, shard_refs(units))
        if not units.num_rows or not done:
            break
    units = _set_aside(work, units, failures)
    if units.num_rows:
        raise _incomplete(units, failures)


def _incomplete(units: pa.Table, failures: Sequence[tuple[str, str]]) -> IncompleteError:
    key, why = failures[0] if failures else (units.column(0)[0].as_py(), "its worker died repeatedly")
    fix = "run the same command again: what is done is kept"
    if unreadable.reason_of(why):
        fix = "see that it can be read, and run again; or `on_unreadable: quarantine` in the recipe"
    why = why.partition(": ")[2] or why
    return IncompleteError(f"{units.num_rows} of the planned shards could not be scored; {key}: {why}", fix=fix)


def _set_aside(work: Pipeline, units: pa.Table, failures: Iterable[tuple[str, str]]) -> pa.Table:
    """Set aside the units that the store refuses for good, if the recipe allows it, and return the others."""
    work.unreadable.clear()
    if work.recipe.on_unreadable == "stop":
        return units
    reasons = {key: reason for key, why in failures if (reason := unreadable.reason_of(why))}
    left = []
    for shard in shard_refs(units):
        if shard.key in reasons:
            work.unreadable[shard] = reasons[shard.key]
        left.append(shard.key not in reasons)
    return units.filter(pa.array(left, pa.bool_()))


def check_weights(work: Pipeline, lacked: Collection[str]) -> None:
    """Raise `PinnedFileError` for weights that don't fit their scorer, by the headers of their files.

    lacked: the columns to be scored; the models of others are not needed. Takes some seconds, in which torch is
    imported. Where the driver leaves it out, each worker does it before it loads its models.
    """
    scorers = {name: scorer for name, scorer in work.recipe.scorers.items() if name in lacked}
    check_scorers(scorers, work.recipe.places, work.recipe.options)
    work.checked = True


def scoring_task(work: Pipeline, lacked: Sequence[str]) -> ScoringTask:
    """Return what workers need to score the columns `lacked`. Models of other columns are not loaded."""
    (index, *columns), recipe = work.columns, work.recipe
    scorers = {name: scorer for name, scorer in recipe.scorers.items() if name in lacked}
    wanted = [column for column in columns if column.name in scorers]
    return ScoringTask(
        work.corpus.store(), work.scored, index, wanted, scorers, recipe.decoding, recipe.compute, recipe.caption,
        {} if work.checked else recipe.places,
    )  # fmt: skip
