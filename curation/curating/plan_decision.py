"""Decide over a whole plan: load its score tables into a decision engine, run the filters, judge the yield.

Costs a read of the columns that filters and manifest need, 3 us a sample, and the filters' queries. The driver holds
the engine's bounded memory and a spool on local disk. Image bytes, and embeddings that no filter reads, stay where they
are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.core.errors import EditListError, StoreError, YieldError
from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating import acceptance, added_samples, decision_results, writing
from curation.curating.decisions import Decisions
from curation.curating.pipeline import Pipeline
from curation.curating.record_spool import RecordSpool
from curation.curating.write_groups import WriteGroups
from curation.filters import ComparingFilter, flat
from curation.filters.named import columns_needed
from curation.ledger import score_tables, score_values, unreadable
from curation.ledger.documents import SnapshotDocument
from curation.ledger.plans import Plan
from curation.recipes.entries import columns_of, kinds_of

Fields = Mapping[score_tables.Column, Mapping[str, pa.DataType]]


def try_filters(work: Pipeline) -> None:
    """Run the filters over no samples, so that a filter that can't read its columns is reported before scoring. 0.1 s.

    Raises `RecipeError`.
    """
    kinds = kinds_of(work.recipe.scorers)
    filters = [item.filter for item in work.recipe.filters]
    index, wanted = columns_needed(work.recipe.filters)
    vectors = [name for name in wanted if score_values.is_vector(kinds[name])]
    plain = {name: kinds[name] for name in wanted if name not in vectors}
    with Decisions(work.spool, index, plain, vectors, memory=work.recipe.compute.memory) as engine:
        compared = {
            item.compared_table(): item.compared_columns()
            for item in flat(filters)
            if isinstance(item, ComparingFilter)
        }
        for name, columns in compared.items():
            engine.load_others(name, columns, [])
        engine.decide(work.recipe.filters, work.edits)


@contextmanager
def decide(
    work: Pipeline, plan: Plan, tick: Tick, known: Iterable[score_tables.Records] | None = None
) -> Iterator[WriteGroups]:
    """Load the score tables of the plan and run the filters over them. known: commit records that were read before."""
    aside = work.unreadable
    if len(aside) > unreadable.MOST * plan.units:
        shard, reason = next(iter(aside.items()))
        text = f"{len(aside):,} of {plan.units:,} shards can't be read, such as {shard.key} ({reason})"
        raise StoreError(text, fix="check the credentials, their permissions, and the storage class of the shards")
    fields = score_fields(work, (shard for shard in plan.shards() if shard not in aside))
    index, _ = columns_needed(work.recipe.filters)
    with (
        closing(RecordSpool(work.spool / "records")) as records,
        loaded(work, plan, plan.shards(), index, fields, tick, records=records, known=known) as decided,
    ):
        if work.marked:
            _expect_new(work, plan, decided.engine)
            decided.added = added_samples.added_units(work.edits.added, work.marked)
            decided.limits, decided.options = work.recipe.decoding, work.recipe.options
        decided.engine.decide(work.recipe.filters, work.edits)
        yield decided


def _expect_new(work: Pipeline, plan: Plan, engine: Decisions) -> None:
    """Raise `EditListError` for an edit that adds a sample of the corpus."""
    adds = work.edits.adds
    engine.db.register("adds", adds.select(["uid", "value"]))
    both = "SELECT uid, value, unit FROM adds JOIN pool USING (uid) ORDER BY uid LIMIT 1"
    found = engine.db.execute(both).fetchall()
    engine.db.unregister("adds")
    for uid, url, unit in found:
        shard = next(islice(plan.shards(), unit, None))
        text = f"uid {uid}: an edit adds it from {url}, but the corpus has it already, in {shard.key}"
        raise EditListError(text, fix="remove the add, or write keep instead to keep the sample whatever filters say")


@contextmanager
def loaded(
    work: Pipeline,
    plan: Plan,
    shards: Iterable[ShardRef],
    index: Sequence[str],
    fields: Fields,
    tick: Tick,
    made: Mapping[str, str] | None = None,
    kept: Path | None = None,
    records: RecordSpool | None = None,
    known: Iterable[score_tables.Records] | None = None,
) -> Iterator[WriteGroups]:
    """Open an engine with score tables of some of the plan's shards, and with the samples that its filters compare.

    It loads the columns `index` of the index, the scores of `fields`, and the vectors that the recipe's filters read.
    made, kept: as of `SamplePool`. records: receives the commit records. known: those that were read before, by shard.
    """
    kinds = {name: kind for found in fields.values() for name, kind in found.items()}
    wanted = set(columns_needed(work.recipe.filters)[1]) - kinds.keys()
    columns, vectors = [work.columns[0], *fields], [item for item in work.columns[1:] if item.name in wanted]
    names, memory = [column.name for column in vectors], work.recipe.compute.memory
    with Decisions(work.spool, index, kinds, names, made=made, memory=memory, kept=kept) as engine:
        decided = WriteGroups(engine, plan, columns, records=records, caption=work.recipe.caption)
        if kept is None:
            lengths = partial(writing.written_lengths, samples_per_shard=work.recipe.shards.samples)
            units = score_tables.load_units(
                work.scored, shards, columns, index, vectors, lengths, work.unreadable, known
            )
            engine.load(decided.collect(units, tick))
        filters = [item.filter for item in work.recipe.filters]
        work.others.load(engine, filters, work.columns)
        yield decided


def score_fields(work: Pipeline, shards: Iterator[ShardRef], without: Collection[str] = ()) -> Fields:
    """Return the names and types of each scorer's numbers and words; no vectors, and no columns `without`.

    The recipe's scorers declare them. Only where a column has another fingerprint than the recipe's scorer has today (a
    snapshot of an earlier version), its table of the first of the shards is read.
    """
    ours, fields = work.recipe.fingerprints, dict[score_tables.Column, Mapping[str, pa.DataType]]()
    stale = [column for column in work.columns[1:] if ours.get(column.name) != column.fingerprint]
    first = next(shards) if set(stale) - set(without) else None
    for column in work.columns[1:]:
        if column.name in without:
            continue
        if first is not None and column in stale:
            found = score_tables.fields(work.scored, first, column)
        else:
            kinds = columns_of(column.name, work.recipe.scorers[column.name])
            found = {name: kind for name, kind in kinds.items() if not score_values.is_vector(kind)}
        if found:
            fields[column] = found
    return fields


def expect_yield(work: Pipeline, plan: Plan, decided: WriteGroups) -> None:
    """Raise `YieldError` for a decision that is more likely a mistake than meant, before any byte is written."""
    for line in refusals(work, plan, decided):
        raise YieldError(f"no snapshot is made: {line}", fix=acceptance.FIX)


def refusals(
    work: Pipeline, plan: Plan, decided: WriteGroups, samples: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield why `curate run` would make no snapshot of a decision. samples: its totals, if known."""
    samples = samples or decision_results.totals(decided.engine)
    causes = {}
    quarantined: Any = samples["quarantined"]
    if "score_not_finite" in quarantined:
        bad = decision_results.not_finite(decided.engine)
        causes["score_not_finite"] = ", ".join(f"{name} is NaN or missing for {n:,}" for name, n in bad.items())
    latest = work.out.latest()
    parent = _of_corpus(work.out.snapshot(latest)) if latest else None
    units = {"total": plan.units, "empty": decided.empty}
    yield from acceptance.refusals(samples, units, most=work.recipe.max_quarantined, parent=parent, causes=causes)


def _of_corpus(document: SnapshotDocument) -> dict[str, int]:
    """Return how many samples of its corpus a snapshot has seen and kept, without those that edits added."""
    counts = {name: int(document["samples"][name]) for name in ("seen", "kept")}
    if document.added is None:
        return counts
    return {name: count - int(document["added"]["samples"][name]) for name, count in counts.items()}
