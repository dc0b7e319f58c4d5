"""`curate what-if`: what other settings of the filters would keep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.run import json_option, recipe_argument

if TYPE_CHECKING:
    from curation.data import ShardRef
    from curation.what_if import Answer
    from jobs.pipeline import Pipeline


@click.command(
    "what-if",
    epilog="\b\nExamples:\n  curate what-if recipe.yaml --set filters.top_fraction.fraction=0.1,0.2,0.3\n"
    "  curate what-if recipe.yaml --set filters.caption.min_words=1,2,3 --html what-if.html",
)
@recipe_argument
@click.option("--set", "overrides", multiple=True, metavar="KEY=V1,V2,...",
              help="Values of a key, each of which is tried; with several --set, all combinations.")  # fmt: skip
@click.option("--html", type=click.Path(dir_okay=False), help="Write a page with plots.")
@json_option
def what_if(recipe: str, overrides: tuple[str, ...], html: str | None, as_json: bool) -> None:
    """Say what each setting of the filters would keep, and how that differs from the current snapshot.

    Reads score tables only: nothing is scored, no byte is moved, nothing is written. Shards that have not been scored
    yet are left out, and counted.
    """
    from curation.recipe import load_recipe
    from jobs.pipeline import pipeline

    recipes = {" ".join(setting) or "as it is": load_recipe(recipe, setting) for setting in settings(overrides)}
    first = next(iter(recipes.values()))
    _check_same_scores(first, recipes)
    with pipeline(first, dry=True) as work:
        answers, unscored = ask(work, recipes)
    if html:
        from jobs.what_if_page import page

        Path(html).write_text(page(recipe, answers, unscored))
    if as_json:
        click.echo(json.dumps({"unscored_shards": unscored, "answers": [a.to_json() for a in answers]}, indent=2))
        return
    if unscored:
        click.echo(f"{unscored:,} shards have not been scored and are left out", err=True)
    click.echo("\n".join(table(answers)))


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


def _check_same_scores(first: Any, recipes: dict[str, Any]) -> None:
    from curation.errors import UserError

    for name, other in recipes.items():
        if other.fingerprints != first.fingerprints or other.corpus != first.corpus or other.scores != first.scores:
            fix = "set only filters.*; another corpus or scorer is another recipe"
            raise UserError(f"{name} changes what is scored, not only what is kept", fix=fix)


def ask(work: Pipeline, recipes: dict[str, Any]) -> tuple[list[Answer], int]:
    """An answer for each recipe, and how many shards have not been scored."""
    import curation as cu
    from curation import decisions, scores
    from curation.errors import IncompleteError
    from curation.others import open_others
    from curation.what_if import WhatIf
    from jobs.progress import progress

    plan = work.plan(write=False)
    lacking = set(work.missing(plan).column("shard_key").to_pylist())
    if len(lacking) == plan.units:
        raise IncompleteError("none of the shards has been scored", fix="curate run scores them")

    def scored() -> Iterator[ShardRef]:
        return (shard for shard in plan.shards() if shard.key not in lacking)

    filters = [item for recipe in recipes.values() for item in recipe.filters]
    index = sorted({*decisions.columns_needed(filters)[0], "caption"})
    wanted = set(decisions.columns_needed(filters)[1])
    probe = next(scored())
    columns, kinds = [work.columns[0]], {}
    for column in work.columns[1:]:
        fields = scores.fields(work.scored, probe, column)
        if fields.keys() & wanted or any(str(kind) == "string" for kind in fields.values()):
            columns.append(column)
            kinds |= fields
    latest = work.out.latest()
    kept = cu.open(f"{work.recipe.output}@{latest}").reader(["uid", "decision"]) if latest else None
    vectors = work.vectors(wanted, kinds)
    names = [column.name for column in vectors]
    with decisions.Decisions(work.spool, index, kinds, names, memory=work.recipe.compute.memory) as engine:
        with progress("Reading scores", None) as tick:
            units = scores.load_units(work.scored, scored(), columns, index, vectors)
            engine.load(_ticking(units, tick))
        named = [item.filter for item in filters]
        open_others(named, work.recipe.options).load(engine, named, work.columns)
        asked = WhatIf(engine, kept)
        lists = {name: item.uids for name, item in work.lists.items() if name in ("keep", "drop")}
        weights = {"weights": work.lists["weights"].weighed()} if "weights" in work.lists else {}
        answers = [asked.ask(name, recipe.filters, **lists, **weights) for name, recipe in recipes.items()]
    return answers, len(lacking)


def _ticking(units: Iterator[tuple[str | None, Any]], tick: Any) -> Iterator[tuple[int, Any]]:
    for ordinal, (_, rows) in enumerate(units):
        tick(rows.num_rows)
        yield ordinal, rows


def table(answers: Sequence[Answer]) -> list[str]:
    """A line a setting; below it the marginal keep rate of its filters."""
    width = max(len(answer.setting) for answer in answers)
    lines = [f"{'setting':<{width}}  {'kept':>12}  {'yield':>6}  {'entering':>10}  {'leaving':>10}  overlap"]
    for answer in answers:
        kept, seen = answer.samples["kept"], max(1, answer.samples["seen"])
        line = f"{answer.setting:<{width}}  {kept:>12,}  {kept / seen:>6.1%}"
        if answer.overlap:
            found = answer.overlap
            line += f"  {found['entering']:>10,}  {found['leaving']:>10,}  {found['jaccard']:.1%}"
        lines.append(line)
        rates = ", ".join(f"{step.filter} {step.rate:.1%}" for step in answer.steps)
        lines.append(f"{'':<{width}}  of what reaches it, each keeps: {rates or 'there are no filters'}")
    return lines
