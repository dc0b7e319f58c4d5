"""`curate review`: a queue of doubtful labels, built from a recipe; answers; status, checks and corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from jobs.commands.review_answers import annotate, apply, export, import_, open_queue_at, queue_argument
from jobs.commands.review_page import serve
from jobs.commands.review_report import report, warn
from jobs.commands.review_rerank import rerank
from jobs.options import json_option, print_json, recipe_argument, set_option

if TYPE_CHECKING:
    from curation.review.status import QueueStatus


@click.group(
    epilog="\b\nExamples:\n  curate review build recipe.yaml --budget 2000 --label name --out demo/queue\n"
    "  curate review serve demo/queue\n  curate review apply demo/queue --out demo/edits.parquet"
)
def review() -> None:
    """Look at the samples whose labels are most doubtful, and correct them.

    A queue is a folder at any store URL. Its answers are create-only records: two reviewers, a killed server and a
    repeated import lose and double nothing.
    """


@review.command(
    epilog="\b\nExamples:\n  curate review build recipe.yaml --budget 2000 --label name --out demo/queue\n"
    "  curate review build recipe.yaml --budget 500 --by clip_score --dry-run --out demo/queue"
)
@recipe_argument
@click.option("--budget", required=True, type=click.IntRange(1), metavar="N",
              help="Answers to pay for. An item costs one answer, or more if reviewers disagree.")  # fmt: skip
@click.option("--out", required=True, metavar="URL", help="Folder of the queue.")
@click.option("--label", default="label", show_default=True, metavar="FIELD",
              help="Field of a sample's json that holds its label.")  # fmt: skip
@click.option(
    "--by", metavar="SCORE", help="Rank by this score, highest first. Default: the priority of the last filter."
)
@click.option("--posterior", metavar="SCORE", help="Score column with the proxy's class probabilities, to show the "
              "three most probable classes. Default: the recipe's label_posterior.")  # fmt: skip
@click.option("--classes", metavar="A,B,...|@FILE", help="Classes, or a file with one a line. "
              "Default: those of the proxy, else the labels of the items, sorted.")  # fmt: skip
@click.option("--items", type=click.IntRange(1), metavar="N", help="Items of the queue, at most. Default: the budget.")
@click.option("--current-votes", type=click.IntRange(0, 1), default=1, show_default=True,
              help="Votes of the current label. 1: one reviewer confirms it, two who agree overrule it. 0: one "
              "reviewer decides.")  # fmt: skip
@click.option("--every", type=click.IntRange(1), metavar="N",
              help="Rank the items left again after every N answers, by the recipe's classifiers, fine-tuned on the "
              "answers. Default: never.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Rank and read the samples, and write nothing.")
@set_option
@json_option
def build(
    recipe: str, budget: int, out: str, label: str, by: str | None, posterior: str | None, classes: str | None,
    items: int | None, current_votes: int, every: int | None, dry_run: bool, overrides: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Build a queue of the samples that a recipe's filters keep, ranked by a score.

    Reads score tables, so `curate run` (or its scoring) comes first, and each chosen sample once, for its label and its
    picture. Repeated with the same options, it finds the queue and changes nothing.
    """
    from dataclasses import asdict

    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.curating.pipeline import pipeline
    from curation.curating.ranked_samples import (
        posterior_classes,
        posterior_column,
        ranked_samples,
        ranking,
        reranking,
    )
    from curation.recipes.curation_recipe import load_recipe
    from curation.review.candidates import items_of
    from curation.review.queue import create_queue

    names, loaded = class_names(classes), load_recipe(recipe, overrides)
    with pipeline(loaded, dry=True) as work:
        again = {} if every is None else {"reranking": {"every": every, **reranking(work)}}
        by, posterior = by or ranking(work), posterior or posterior_column(work)
        if posterior and not (names := names or list(posterior_classes(work, posterior))):
            fix = "name them with --classes, in the order of the probabilities"
            raise UserError(f"the classes of {posterior} have no names", fix=fix)
        with progress("Ranking", None) as tick:
            ranked = ranked_samples(work, by, items or budget, posterior, tick)
        store = work.corpus.store()
        with progress("Reading samples", ranked.num_rows) as tick:
            table, found = items_of(ranked, store, label, names, loaded.decoding, tick)
    pin = {"by": by, "recipe_sha256": loaded.sha256}
    limits = {**asdict(loaded.decoding), "formats": list(loaded.decoding.formats)}
    document = {
        "budget": budget, "classes": found, "label": label, "current_votes": current_votes, "ranking": pin,
        "corpus": store.url, "limits": limits, **again,
    }  # fmt: skip
    queue = None if dry_run else create_queue(out, document, table)
    reasons = [reason for reason in table.column("reason").to_pylist() if reason is not None]
    counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    if as_json:
        identity = None if queue is None else queue.sha256
        print_json({"queue": identity, "items": table.num_rows, "classes": found, "by": by, "findings": counts})
        return
    what = f"{table.num_rows:,} items by {by}, {len(found):,} classes, {budget:,} answers"
    click.echo(printable(f"would build: {what}" if queue is None else f"{what}: {out}, {queue.sha256[:16]}"))
    for reason, count in counts.items():
        click.echo(f"  {count:>10,}  {reason}", err=True)


def class_names(text: str | None) -> list[str]:
    """Return the classes that `--classes` names, in order."""
    if text is None:
        return []
    if not text.startswith("@"):
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [line.strip() for line in Path(text[1:]).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{text[1:]} can't be read: {error}", param_hint="--classes") from None


for command in (annotate, apply, export, import_, report, rerank, serve):
    review.add_command(command)


@review.command(epilog="\b\nExample:\n  curate review status demo/queue")
@queue_argument
@json_option
def status(queue: str, as_json: bool) -> None:
    """Show how many items are open, answered and refused, and what is left of the budget.

    Reads every answer once. Safe to use while others review.
    """
    from curation.annotators.attribution import who_answered
    from curation.core.progress import progress
    from curation.review.status import status_of

    opened = open_queue_at(queue)
    with progress("Reading answers", opened.document.items.rows, "items") as tick:
        found = status_of(opened, tick)
    if as_json:
        print_json({"queue": opened.sha256, "annotators": who_answered(found.reviewers), **found.to_json()})
        return
    click.echo("\n".join(status_lines(found)))
    warn(found, queue)


def status_lines(found: QueueStatus) -> list[str]:
    """Return a queue's counts as lines; each names recorded or simulated annotators, if they answered."""
    from curation.annotators.attribution import attributed, who_answered

    lines = [
        f"items     {found.items:>10,}",
        f"answered  {found.answered:>10,}   ({found.confirmed:,} labels confirmed, {found.changed:,} to change)",
        f"refused   {found.refused:>10,}   (a reviewer can't tell)",
        f"open      {found.open:>10,}   ({found.tied:,} with answers, but no class ahead: another reviewer decides)",
        f"answers   {found.spent:>10,}   of {found.budget:,}",
    ]
    lines += [f"  {count:>10,}  {name}" for name, count in found.reviewers.most_common(20)]
    return list(attributed(who_answered(found.reviewers), lines))


@review.command(epilog="\b\nExample:\n  curate review verify demo/queue --no-pictures")
@queue_argument
@click.option("--pictures/--no-pictures", default=True, show_default=True,
              help="Read every sample again: its picture and its label.")  # fmt: skip
@json_option
def verify(queue: str, pictures: bool, as_json: bool) -> None:
    """Check every answer, every item and the counts of a queue; each finding names the item and a reason.

    The item of a finding stays open. `curate verify QUEUE` does the same.
    """
    verify_and_report(queue, pictures=pictures, as_json=as_json)


def verify_and_report(url: str, *, pictures: bool, as_json: bool) -> None:
    """Verify the queue at a URL and print what was found. Raises `VerifyError` if there is any finding."""
    from curation.core.errors import VerifyError
    from curation.core.progress import progress
    from curation.review.verification import verify_queue

    opened = open_queue_at(url)
    rows = opened.document.items.rows
    with progress("Verifying", rows * (1 + pictures), "items") as tick:
        found = verify_queue(opened, pictures=pictures, tick=tick)
    if as_json:
        print_json({"queue": opened.sha256, **found.to_json()})
    else:
        for finding in found.findings:
            click.echo(printable(f"  {finding}"), err=True)
    if found.findings:
        fix = "look at the items; an answer that is wrong has no effect, and its item stays open"
        raise VerifyError(f"{url}: {len(found.findings):,} findings, the first: {found.findings[0]}", fix=fix)
    if not as_json:
        counts: Any = found.status
        sums = (
            f"{counts.open:,} open + {counts.answered:,} answered + {counts.refused:,} refused = {counts.items:,} items"
        )
        click.echo(f"verified {url}: {sums}, {counts.spent:,} answers, no finding")
