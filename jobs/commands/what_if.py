"""`curate what-if`: what other settings of the filters would keep."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.commands.groups import lines as group_lines
from jobs.commands.groups import warn
from jobs.options import html_option, json_option, print_json, recipe_argument

if TYPE_CHECKING:
    import pyarrow as pa

    from curation.core.types import ShardRef
    from curation.curating.what_if import WhatIfAnswer
    from curation.dataset.snapshot import Snapshot
    from curation.ledger.plans import Plan
    from jobs.pipeline import Pipeline


@click.command(
    "what-if",
    epilog="\b\nExamples:\n  curate what-if recipe.yaml --set filters.top_fraction.fraction=0.1,0.2,0.3\n"
    "  curate what-if recipe.yaml --set filters.caption.min_words=1,2,3 --html what-if.html",
)
@recipe_argument
@click.option("--set", "overrides", multiple=True, metavar="KEY=V1,V2,...",
              help="Values of a key, each of which is tried; with several --set, all combinations.")  # fmt: skip
@click.option("--keep/--no-keep", default=True, show_default=True,
              help="Keep what is loaded in this machine's cache: the next question is answered at once.")  # fmt: skip
@html_option("Write a page with plots.")
@json_option
def what_if(recipe: str, overrides: tuple[str, ...], keep: bool, html: str | None, as_json: bool) -> None:
    """Say what each setting of the filters would keep, and how that differs from the current snapshot.

    Reads score tables only: nothing is scored, no byte is moved, nothing is written to a store. Shards that have not
    been scored yet are left out, of the snapshot too, and counted. Columns that the cache keeps are of all shards, and
    no store is asked about them again.
    """
    from curation.ledger.unreadable import by_reason
    from curation.recipes.curation_recipe import load_recipe
    from jobs.commands.run import tell_unreadable
    from jobs.pipeline import pipeline

    recipes = {" ".join(setting) or "as it is": load_recipe(recipe, setting) for setting in settings(overrides)}
    _check_only_filters_differ(recipes)
    with pipeline(every(recipes), dry=True) as work:
        answers, unscored = ask(work, recipes, keep=keep)
        if html:
            from jobs.pages.what_if import page

            looks = _looks(work, answers, unscored)
            text = page(recipe, answers, unscored.num_rows, looks, unreadable=len(work.unreadable))
            Path(html).write_text(text)
    if as_json:
        aside = by_reason(work.unreadable)
        found = [answer.to_json() for answer in answers]
        print_json({"unscored_shards": unscored.num_rows, "unreadable": aside, "answers": found})
        return
    if work.unreadable:
        tell_unreadable(work.unreadable)
    if unscored.num_rows:
        click.echo(f"{unscored.num_rows:,} shards have not been scored and are left out", err=True)
    click.echo("\n".join(table(answers)))
    for answer in answers:
        for line in answer.refused:
            click.echo(f"warning: {answer.setting}: curate run would make no snapshot: {line}", err=True)
        found = [group.to_json() for group in answer.groups]
        warn(found, answer.samples["seen"], f"curate what-if {recipe} --html page.html")


def settings(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """`["a=1,2", "b=x"]` as `("a=1", "b=x")` and `("a=2", "b=x")`. Commas within brackets are no separators."""
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


def _check_only_filters_differ(recipes: dict[str, Any]) -> None:
    from curation.core.errors import UserError

    first, *others = recipes.values()
    for name, other in zip(list(recipes)[1:], others, strict=True):
        keys = (first.document.keys() | other.document.keys()) - {"filters"}
        if changed := sorted(key for key in keys if first.document.get(key) != other.document.get(key)):
            fix = f"several values of filters.* only; another {changed[0]} is asked for in a command of its own"
            raise UserError(f"{name} changes {', '.join(changed)}, and all settings are asked of one pipeline", fix=fix)


def every(recipes: dict[str, Any]) -> Any:
    """The first recipe with the filters of all: a pipeline of it has opened what any of them reads or compares with."""
    first = next(iter(recipes.values()))
    return first.model_copy(update={"filters": [item for recipe in recipes.values() for item in recipe.filters]})


def ask(work: Pipeline, recipes: dict[str, Any], *, keep: bool = False) -> tuple[list[WhatIfAnswer], pa.Table]:
    """An answer for each recipe, and the shards that have not been scored. `work` is of `every(recipes)`. `keep`: take
    the columns that an earlier question has left in the cache, or leave them for the next one."""
    import duckdb

    from curation.core.errors import IncompleteError
    from curation.curating import column_cache
    from jobs.pipeline import lacked_columns

    plan = work.plan(write=False)
    work.recall_unreadable(plan)
    name = _name_of(work, plan)
    if keep and (kept := column_cache.found(name)):
        try:
            return _answers(work, recipes, plan, work.nothing(), kept), work.nothing()
        except duckdb.Error:  # it is damaged, or a filter fails, and then will again
            kept.unlink(missing_ok=True)
    missing = work.missing(plan)
    unscored, without = _unscored(work, missing)
    if unscored.num_rows + len(work.unreadable) == plan.units:
        lacked = ", ".join(lacked_columns(unscored)) or "all columns, and the store refuses to give them"
        text = f"none of the shards has been scored: they lack {lacked}"
        raise IncompleteError(text, fix="`curate run RECIPE --check-scores` scores them")
    keep_as = name if keep and not missing.num_rows else None
    return _answers(work, recipes, plan, unscored, keep_as=keep_as, without=without), unscored


def _unscored(work: Pipeline, missing: pa.Table) -> tuple[pa.Table, set[str]]:
    """Shards that lack what the filters read, and the other columns that some shard lacks: nothing is told by these."""
    import pyarrow as pa

    needed = {work.columns[0].name, *(name.partition(".")[0] for name in _columns(work)[1])}
    lacks = [set(names) for names in missing.column("lacks").to_pylist()]
    without = set[str]().union(*lacks) - needed
    return missing.filter(pa.array([bool(names & needed) for names in lacks], pa.bool_())), without


def _name_of(work: Pipeline, plan: Plan) -> str:
    """Of the columns that are loaded, in the cache: by all that decides them."""
    from curation.curating import column_cache
    from curation.curating.what_if import MADE
    from curation.ledger import score_values
    from curation.recipes.entries import kinds_of

    index, needed = _columns(work)
    kinds = kinds_of(work.recipe.scorers)
    vectors = [column for column in needed if score_values.is_vector(kinds[column])]
    return column_cache.identity(plan.id, index, vectors, MADE, work.recipe.shards.samples, work.unreadable)


def _columns(work: Pipeline) -> tuple[list[str], list[str]]:
    """Of the index, and of scores, as filters read them; captions to tell examples and to count words."""
    from curation.filters.named import columns_needed

    index, needed = columns_needed(work.recipe.filters)
    return sorted({*index, "caption"}), needed


def _answers(
    work: Pipeline, recipes: dict[str, Any], plan: Plan, unscored: pa.Table, kept: Path | None = None,
    keep_as: str | None = None, without: Collection[str] = (),
) -> list[WhatIfAnswer]:  # fmt: skip
    """The answers of what is scored: of the columns at `kept`, or of score tables, to be kept then under a name."""
    from curation.core.progress import progress
    from curation.curating import column_cache
    from curation.curating.what_if import MADE, WhatIf
    from curation.dataset.manifest import Streams
    from curation.dataset.snapshot import Snapshot

    readable = (shard for shard in _scored(plan, unscored) if shard not in work.unreadable)
    there = work.fields(next(readable), without) if kept is None else work.declared()
    fields = {column: found for column, found in there.items() if found}  # as a run loads them
    latest = work.out.latest()
    before = manifest_of(Snapshot(work.out.store, work.out.snapshot(latest)), unscored) if latest else None
    with ExitStack() as stack:
        with progress("Reading scores", None) as tick:
            loaded = work.loaded(plan, _scored(plan, unscored), _columns(work)[0], fields, tick, MADE, kept)
            decided = stack.enter_context(loaded)
            engine = decided.engine
            if kept is not None:  # which has samples alone
                decided.empty.update(work.unreadable.values())
        if keep_as is not None and (why := column_cache.keep(engine, keep_as)):
            click.echo(f"what is loaded is not kept for the next question: {why}", err=True)
        with Streams() as streams:
            asked = WhatIf(engine, None if before is None else streams.of(before))
        lists = work.listed()
        answers = []
        for name, recipe in recipes.items():
            answer = asked.ask(name, recipe.filters, **lists)
            answers.append(replace(answer, refused=tuple(work.refusals(plan, decided, answer.samples))))
        return answers


def _scored(plan: Plan, unscored: pa.Table) -> Iterator[ShardRef]:
    """The plan's shards but for those that have not been scored, in order."""
    left_out = set(unscored.column("shard_key").to_pylist())
    return (shard for shard in plan.shards() if shard.key not in left_out)


def _looks(work: Pipeline, answers: Sequence[WhatIfAnswer], unscored: pa.Table) -> Any:
    """How the members of the answers' largest groups look."""
    from jobs.pages.groups import looks

    groups = [group for answer in answers for group in answer.groups]
    return looks(work, _scored(work.plan(write=False), unscored), groups)


def manifest_of(snapshot: Snapshot, unscored: pa.Table) -> pa.RecordBatchReader:
    """What a snapshot decided, but for samples of shards that are left out: nobody knows whether these would leave."""
    import pyarrow as pa
    import pyarrow.compute as pc

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


def table(answers: Sequence[WhatIfAnswer]) -> list[str]:
    """A line a setting; below it the marginal keep rate of its filters."""
    width = max(len(answer.setting) for answer in answers)
    lines = [f"{'setting':<{width}}  {'kept':>12}  {'yield':>6}  {'entering':>10}  {'leaving':>10}  overlap"]
    for answer in answers:
        kept, seen = answer.samples["kept"], max(1, answer.samples["seen"])
        line = f"{answer.setting:<{width}}  {kept:>12,}  {kept / seen:>6.1%}"
        if answer.overlap:
            overlap = answer.overlap
            line += f"  {overlap['entering']:>10,}  {overlap['leaving']:>10,}  {overlap['jaccard']:.1%}"
        lines.append(line)
        rates = ", ".join(f"{step.filter} {step.rate:.1%}" for step in answer.steps)
        lines.append(f"{'':<{width}}  of what reaches it, each keeps: {rates or 'there are no filters'}")
        if answer.groups:
            lines.append(f"{'':<{width}}  the largest groups of duplicates:")
            groups = [group.to_json() for group in answer.groups]
            lines += [f"{'':<{width}}  {line}" for line in group_lines(groups, seen, 3)]
    return lines
