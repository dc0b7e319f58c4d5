"""Curate: plan, score what has no scores yet, decide, write shards and manifest, make a snapshot.

Safe to interrupt, to kill and to repeat: what is committed is found. An engine is started only when something is left
to do, and the same steps run on every engine (`core.executor`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from curation.core.executor import Executor
from curation.core.local_executor import LocalExecutor
from curation.core.printable import printable
from curation.core.progress import progress
from curation.core.types import ShardRef
from curation.curating import planning
from curation.curating.pipeline import Pipeline, pipeline, worker_modules
from curation.curating.record_spool import RecordSpool
from curation.dataset.snapshot import Snapshot
from curation.ledger.documents import SnapshotDocument
from curation.ledger.plans import Plan
from curation.ledger.unreadable import listed, read_list
from curation.recipes.curation_recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from curation.curating.write_groups import WriteGroups


@dataclass(frozen=True)
class RunOptions:
    """What a run does beyond the recipe.

    check_scores: read every score table, and score again those that are gone or damaged. accept_yield: make the
    snapshot whatever its yield. retry_unreadable: try the shards again that the last snapshot was made without.
    """

    check_scores: bool = False
    accept_yield: bool = False
    retry_unreadable: bool = False


class Engine(Protocol):
    """Chooses an executor for the units that are left, and calls a task with it, again where a cluster broke."""

    def __call__(
        self, plan: Plan, units: pa.Table, task: Callable[[Executor], SnapshotDocument]
    ) -> SnapshotDocument: ...


def curate(
    recipe: Recipe | str | Path, *, overrides: Sequence[str] = (), executor: Executor | None = None,
    options: RunOptions = RunOptions(),
) -> Snapshot:  # fmt: skip
    """Carry out a recipe in this process, and return the snapshot that it makes, or that exists already.

    recipe: a recipe, or the path or URL of one; `overrides` are `key=value`, as of `curate run --set`. executor: where
    to score and write; None: this machine (`LocalExecutor`). Raises `UserError` for a mistake in the recipe,
    `StoreError`, `IncompleteError` where shards could not be scored, and `YieldError` for a yield that looks like a
    mistake. Same as `curate run`.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe), overrides)
    on = executor or LocalExecutor()
    with pipeline(loaded, executor=on) as work:

        def engine(plan: Plan, units: pa.Table, task: Callable[[Executor], SnapshotDocument]) -> SnapshotDocument:
            if units.num_rows:
                on.warm(worker_modules(loaded))
            return task(on)

        return Snapshot(work.out.store, run_steps(work, engine, options))


def run_steps(work: Pipeline, engine: Engine, options: RunOptions) -> SnapshotDocument:
    """Run the steps in order, and return the document of the snapshot.

    Where the snapshot is what the recipe makes, its scores are looked for only with `check_scores`: a small GET for
    each shard and column would be the whole cost of a nightly run of nothing new. Raises `YieldError`, before anything
    is written, for a decision that looks like a mistake and is not accepted.
    """
    planned = planning.make_plan(work)
    current = planning.current_snapshot(work, planned)
    if current:
        work.counts.snapshot = current["snapshot"]
        work.out.publish(current)  # the process that created it may have died before
        without = read_list(work.out.store, current.unreadable)
        if without and not options.retry_unreadable:
            report_unreadable(without)
        if not options.check_scores and not (without and options.retry_unreadable):
            return current
    if options.check_scores:
        with progress("Checking scores", planned.units, "shards") as tick:
            if damaged := planning.take_out_damaged(work, planned, tick):
                _say(f"{damaged:,} score tables are gone or damaged, and scored again")
    with closing(RecordSpool(work.spool / "found")) as records:
        units = planning.missing_units(work, planned, records)
        if current and not units.num_rows:
            return current
        if units.num_rows:
            _try_filters(work)
        asked = [units]  # once; a second cluster, after one that broke, looks for what is left

        def task(executor: Executor) -> SnapshotDocument:
            if asked:
                left = asked.pop()
            else:
                records.clear()
                left = planning.missing_units(work, planned, records)
            return _work_on(work, planned, left, records, current, executor, accept_yield=options.accept_yield)

        return engine(planned, units, task)


def _try_filters(work: Pipeline) -> None:
    from curation.curating import plan_decision  # 0.3 CPU s, which a run with nothing to do doesn't need

    plan_decision.try_filters(work)


def _work_on(
    work: Pipeline, planned: Plan, units: pa.Table, records: RecordSpool, current: SnapshotDocument | None,
    executor: Executor, *, accept_yield: bool,
) -> SnapshotDocument:  # fmt: skip
    """Score `units`, and make the snapshot unless it exists. Safe to repeat: what is committed is found.

    records: the commit records of the plan's units, as far as there were any before.
    """
    from curation.curating import plan_decision, scoring_passes, snapshot_making
    from curation.curating.added_samples import added_line
    from curation.curating.stale_edits import stale_line

    before = current.unreadable if current else None
    if units.num_rows:
        _say(f"scoring {units.num_rows:,} of {planned.units:,} shards")
        with progress("Scoring", None) as tick:
            scoring_passes.score_units(work, units, tick, executor)
    if work.unreadable:
        report_unreadable(work.unreadable)
    if current and (before is None or before.sha256 == sha256(listed(work.unreadable)).hexdigest()):
        return current
    known = records.by_fingerprint()
    with progress("Deciding", None) as tick, plan_decision.decide(work, planned, tick, known) as decided:
        _report_unknown_edits(work, decided)
        if not accept_yield:
            plan_decision.expect_yield(work, planned, decided)
        with progress("Writing", decided.engine.rows) as tick_write:
            written = snapshot_making.write_groups(work, decided, tick_write, executor)
        made = snapshot_making.create_snapshot(work, planned, decided, written)
        if made.added:
            _say(added_line(made["added"]["samples"]))
        if made.stale_edits:
            _say(stale_line(made["stale_edits"]))
        return made


def _report_unknown_edits(work: Pipeline, decided: WriteGroups) -> None:
    """Count the uids of edits that no sample of the corpus has, and report them on stderr."""
    from curation.curating import decision_results

    work.unknown_edits, first = decision_results.unknown_uids(decided.engine)
    if work.unknown_edits:
        _say(f"{work.unknown_edits:,} uids of the edits are not in the corpus, such as {first}")


def report_unreadable(shards: Mapping[ShardRef, str]) -> None:
    """Report on stderr which shards are set aside."""
    shard, reason = next(iter(shards.items()))
    text = f"{len(shards):,} shards are set aside, since the store refuses them, such as {shard.key} ({reason})"
    _say(f"{text}; --retry-unreadable tries them again")


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
