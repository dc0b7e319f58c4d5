"""`curate what-if`: the samples that other filter settings would keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.commands.groups import lines as group_lines
from jobs.commands.groups import warn
from jobs.options import html_option, json_option, print_json, recipe_argument

if TYPE_CHECKING:
    import pyarrow as pa

    from curation.curating.pipeline import Pipeline
    from curation.curating.what_if import WhatIfAnswer


@click.command(
    "what-if",
    epilog="\b\nExamples:\n  curate what-if recipe.yaml --set filters.top_fraction.fraction=0.1,0.2,0.3\n"
    "  curate what-if recipe.yaml --set filters.caption.min_words=1,2,3 --html what-if.html",
)
@recipe_argument
@click.option("--set", "overrides", multiple=True, metavar="KEY=V1,V2,...",
              help="Values of a key to try; with several --set, tries all combinations.")  # fmt: skip
@click.option("--keep/--no-keep", default=True, show_default=True,
              help="Cache the loaded columns on this machine, to answer the next question at once.")  # fmt: skip
@html_option("Write a page with plots and samples.")
@json_option
def what_if(recipe: str, overrides: tuple[str, ...], keep: bool, html: str | None, as_json: bool) -> None:
    """Show what other filter settings would keep.

    Compares each setting with the current snapshot. Reads score tables only: scores nothing, moves no bytes, and writes
    to no store. Shards without scores are left out of both sides and counted. Only columns of all shards are cached;
    they are read without asking a store again.
    """
    from curation.curating.pipeline import pipeline
    from curation.curating.run import report_unreadable
    from curation.curating.what_if_questions import ask, every, recipes_of
    from curation.ledger.unreadable import by_reason

    recipes = recipes_of(recipe, overrides)
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
        report_unreadable(work.unreadable)
    if unscored.num_rows:
        click.echo(f"{unscored.num_rows:,} shards have not been scored and are left out", err=True)
    click.echo("\n".join(table(answers)))
    for answer in answers:
        for line in answer.refused:
            click.echo(f"warning: {answer.setting}: curate run would make no snapshot: {line}", err=True)
        found = [group.to_json() for group in answer.groups]
        warn(found, answer.samples["seen"], f"curate what-if {recipe} --html page.html")


def _looks(work: Pipeline, answers: Sequence[WhatIfAnswer], unscored: pa.Table) -> Any:
    """Return pictures of the members of the answers' largest groups."""
    from curation.curating import planning
    from curation.curating.what_if_questions import scored_shards
    from jobs.pages.groups import looks

    groups = [group for answer in answers for group in answer.groups]
    return looks(work, scored_shards(planning.make_plan(work, write=False), unscored), groups)


def table(answers: Sequence[WhatIfAnswer]) -> list[str]:
    """Return a line for each setting, and below it the marginal keep rate of its filters."""
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
        lines.append(f"{'':<{width}}  share kept by each filter of what reaches it: {rates or 'there are no filters'}")
        if answer.groups:
            lines.append(f"{'':<{width}}  the largest groups of duplicates:")
            groups = [group.to_json() for group in answer.groups]
            lines += [f"{'':<{width}}  {line}" for line in group_lines(groups, seen, 3)]
    return lines
