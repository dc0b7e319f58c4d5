"""Questions about a recipe: what would several settings of its filters keep?

Reads score tables alone, or the columns that an earlier question left in this machine's cache. All settings share one
pipeline and one loaded engine, since nothing but their filters differs.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import IncompleteError, UserError
from curation.core.printable import printable
from curation.core.progress import progress
from curation.core.types import ShardRef
from curation.curating import column_cache, plan_decision, planning
from curation.curating.pipeline import Pipeline, pipeline
from curation.curating.what_if import MADE, WhatIf, WhatIfAnswer
from curation.dataset.manifest import Streams
from curation.dataset.snapshot import Snapshot
from curation.filters.named import columns_needed
from curation.ledger import score_values
from curation.ledger.plans import Plan
from curation.recipes.curation_recipe import Recipe, load_recipe
from curation.recipes.entries import kinds_of


def what_if(recipe: str | Path, overrides: Sequence[str] = (), *, keep: bool = True) -> list[WhatIfAnswer]:
    """Return what each setting of the filters would keep, and how that differs from the current snapshot.

    recipe: the path or URL of a recipe. overrides: `KEY=V1,V2,...`, as of `curate what-if --set`; of several, all
    combinations. keep: keep what is loaded in this machine's cache, so that the next question is answered at once.
    Scores nothing and writes nothing to a store; shards without scores are left out. Raises `UserError` where a setting
    changes more than filters, `IncompleteError` where no shard has been scored. Same as `curate what-if`.
    """
    recipes = recipes_of(recipe, overrides)
    with pipeline(every(recipes), dry=True) as work:
        return ask(work, recipes, keep=keep)[0]


def recipes_of(recipe: str | Path, overrides: Sequence[str]) -> dict[str, Recipe]:
    """Return a recipe for each setting, by the setting's name. Raises `UserError` where more than filters differ."""
    found = {" ".join(setting) or "as it is": load_recipe(recipe, setting) for setting in settings(overrides)}
    first, *others = found.values()
    for name, other in zip(list(found)[1:], others, strict=True):
        keys = (first.document.keys() | other.document.keys()) - {"filters"}
        if changed := sorted(key for key in keys if first.document.get(key) != other.document.get(key)):
            fix = f"give several values of filters.* only; ask about another {changed[0]} in a command of its own"
            raise UserError(f"{name} changes {', '.join(changed)}, and all settings are asked of one pipeline", fix=fix)
    return found


def settings(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield all settings: of `["a=1,2", "b=x"]`, `("a=1", "b=x")` and `("a=2", "b=x")`.

    Commas within brackets do not separate.
    """
    choices = []
    for override in overrides:
        key, equals, values = override.partition("=")
        choices.append([f"{key}{equals}{value}" for value in _split(values)] if equals else [override])
    return product(*choices)


def _split(values: str) -> list[str]:
    found, depth = [""], 0
    for letter in values:
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return found


def every(recipes: Mapping[str, Recipe]) -> Recipe:
    """Return the first recipe with the filters of all: its pipeline opens what any of them reads or compares with."""
    first = next(iter(recipes.values()))
    return first.model_copy(update={"filters": [item for recipe in recipes.values() for item in recipe.filters]})


def ask(
    work: Pipeline, recipes: Mapping[str, Recipe], *, keep: bool = False
) -> tuple[list[WhatIfAnswer], pa.Table]:  # fmt: skip
    """Return an answer for each recipe, and the shards that have no scores. `work` is of `every(recipes)`.

    keep: use the columns that an earlier question left in the cache, or leave them there for the next one.
    """
    plan = planning.make_plan(work, write=False)
    planning.recall_unreadable(work, plan)
    name = _cache_name(work, plan)
    if keep and (kept := column_cache.found(name)):
        try:
            return _answers(work, recipes, plan, planning.no_units(), kept), planning.no_units()
        except duckdb.Error:  # it is damaged, or a filter fails, and then will again
            kept.unlink(missing_ok=True)
    missing = planning.missing_units(work, plan)
    unscored, without = _unscored(work, missing)
    if unscored.num_rows + len(work.unreadable) == plan.units:
        lacked = ", ".join(planning.lacked_columns(unscored)) or "all columns, and the store refuses to give them"
        text = f"none of the shards has been scored: they lack {lacked}"
        raise IncompleteError(text, fix="`curate run RECIPE --check-scores` scores them")
    keep_as = name if keep and not missing.num_rows else None
    return _answers(work, recipes, plan, unscored, keep_as=keep_as, without=without), unscored


def scored_shards(plan: Plan, unscored: pa.Table) -> Iterator[ShardRef]:
    """Yield the plan's shards in order, without those that have no scores."""
    left_out = set(unscored.column("shard_key").to_pylist())
    return (shard for shard in plan.shards() if shard.key not in left_out)


def _unscored(work: Pipeline, missing: pa.Table) -> tuple[pa.Table, set[str]]:
    """The shards that lack what the filters read, and the other columns that some shard lacks, which are not read."""
    needed = {work.columns[0].name, *(name.partition(".")[0] for name in _columns(work)[1])}
    lacks = [set(names) for names in missing.column("lacks").to_pylist()]
    without = set[str]().union(*lacks) - needed
    return missing.filter(pa.array([bool(names & needed) for names in lacks], pa.bool_())), without


def _cache_name(work: Pipeline, plan: Plan) -> str:
    """The name of the loaded columns in the cache: a digest of everything that determines them."""
    index, needed = _columns(work)
    kinds = kinds_of(work.recipe.scorers)
    vectors = [column for column in needed if score_values.is_vector(kinds[column])]
    return column_cache.identity(plan.id, index, vectors, MADE, work.recipe.shards.samples, work.unreadable)


def _columns(work: Pipeline) -> tuple[list[str], list[str]]:
    """The columns of the index and of scores that filters read. Captions too, for examples and their words."""
    index, needed = columns_needed(work.recipe.filters)
    return sorted({*index, "caption"}), needed


def _answers(
    work: Pipeline, recipes: Mapping[str, Recipe], plan: Plan, unscored: pa.Table, kept: Path | None = None,
    keep_as: str | None = None, without: Collection[str] = (),
) -> list[WhatIfAnswer]:  # fmt: skip
    """Answer from the columns at `kept`, or from score tables, which are then cached under the name `keep_as`."""
    readable = (shard for shard in scored_shards(plan, unscored) if shard not in work.unreadable)
    fields = plan_decision.score_fields(work, readable, without)
    latest = work.out.latest()
    before = manifest_of(Snapshot(work.out.store, work.out.snapshot(latest)), unscored) if latest else None
    with ExitStack() as stack:
        with progress("Reading scores", None) as tick:
            shards, index = scored_shards(plan, unscored), _columns(work)[0]
            loaded = plan_decision.loaded(work, plan, shards, index, fields, tick, MADE, kept)
            decided = stack.enter_context(loaded)
            engine = decided.engine
            if kept is not None:  # the cache holds samples alone
                decided.empty.update(work.unreadable.values())
        if keep_as is not None and (why := column_cache.keep(engine, keep_as)):
            text = f"the loaded columns are not cached for the next question: {why}"
            print(printable(text), file=sys.stderr, flush=True)
        with Streams() as streams:
            asked = WhatIf(engine, None if before is None else streams.of(before))
        answers = []
        for name, recipe in recipes.items():
            answer = asked.ask(name, recipe.filters, work.edits)
            refused = tuple(plan_decision.refusals(work, plan, decided, answer.samples))
            answers.append(replace(answer, refused=refused))
        return answers


def manifest_of(snapshot: Snapshot, unscored: pa.Table) -> pa.RecordBatchReader:
    """Stream what a snapshot decided, without the samples of shards that are left out, which nobody can judge."""

    def places(table: pa.Table | pa.RecordBatch, *names: str) -> pa.Array:
        return pc.binary_join_element_wise(*map(table.column, names), " ")

    if not unscored.num_rows:
        return snapshot.reader(["uid", "decision"])
    left_out = places(unscored, "shard_etag", "shard_key")
    source = snapshot.reader(["uid", "decision", "source_etag", "source_key"])
    schema = pa.schema([source.schema.field(name) for name in ("uid", "decision")])

    def known() -> Iterator[pa.RecordBatch]:
        for batch in source:
            there = pc.is_in(places(batch, "source_etag", "source_key"), value_set=left_out)
            yield batch.filter(pc.invert(there)).select(schema.names)

    return pa.RecordBatchReader.from_batches(schema, known())
