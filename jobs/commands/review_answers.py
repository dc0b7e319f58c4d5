"""`curate review export`, `import`, `annotate` and `apply`: items out, answers in, corrections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from jobs.commands.review_rerank import classifier_options, ranking
from jobs.options import json_option, print_json

if TYPE_CHECKING:
    from curation.annotators import Annotator
    from curation.core.progress import Tick
    from curation.review.orders import Order
    from curation.review.queue import Queue

queue_argument = click.argument("queue", metavar="QUEUE")
format_option = click.option("--format", "kind", type=click.Choice(["csv", "label-studio"]), required=True,
                             help="CSV, or the JSON of Label Studio.")  # fmt: skip


def open_queue_at(url: str) -> Queue:
    """Open the queue that a command names."""
    from curation.review.queue import open_queue

    return open_queue(url)


@click.command(epilog="\b\nExamples:\n  curate review export demo/queue --format csv --out items.csv\n"
               "  curate review export demo/queue --format label-studio --out tasks.json")  # fmt: skip
@queue_argument
@format_option
@click.option("--out", required=True, type=click.Path(dir_okay=False, writable=True), help="File to write.")
@click.option("--all", "every", is_flag=True, help="Export answered and refused items, too.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Export the first N items.")
@click.option("--pictures/--no-pictures", default=True, show_default=True,
              help="Embed the pictures in tasks of Label Studio.")  # fmt: skip
@json_option
def export(
    queue: str, kind: str, out: str, every: bool, limit: int | None, pictures: bool, as_json: bool
) -> None:  # fmt: skip
    """Write the open items of a queue to a file, for reviewers who work elsewhere.

    CSV: fill in the columns reviewer, and answer or cannot_tell. Label Studio: import the file as tasks, and use
    OUT.xml as labelling interface. `curate review import` reads both again.
    """
    from curation.core.progress import progress
    from curation.review.answer_csv import csv_lines
    from curation.review.label_studio import labelling_config, task_lines

    opened = open_queue_at(queue)
    with progress("Reading answers", opened.document.items.rows, "items") as tick:
        items = _chosen(opened, every, limit, tick)
    with progress("Exporting", len(items), "items") as tick, Path(out).open("w", encoding="utf-8", newline="") as file:
        lines = csv_lines(opened, items) if kind == "csv" else task_lines(opened, items, pictures=pictures)
        for line in lines:
            file.write(line)
            tick(1)
    files = [out]
    if kind == "label-studio":
        files.append(f"{out}.xml")
        Path(files[-1]).write_text(labelling_config(opened.document.classes), encoding="utf-8")
    if as_json:
        print_json({"queue": opened.sha256, "items": len(items), "files": files})
    else:
        click.echo(f"{len(items):,} items: {', '.join(files)}")


def _chosen(queue: Queue, every: bool, limit: int | None, tick: Tick) -> list[int]:
    """Return the items to export, in rank order."""
    from itertools import islice

    from curation.review.status import states

    found: Iterator[int] = (state.item for state in states(queue, tick) if every or state.state == "open")
    return list(islice(found, limit))


@click.command("import", epilog="\b\nExamples:\n  curate review import demo/queue items.csv --format csv\n"
               "  curate review import demo/queue export.json --format label-studio --dry-run")  # fmt: skip
@queue_argument
@click.argument("file", type=click.Path(dir_okay=False, exists=True))
@format_option
@click.option("--reviewer", default="", metavar="NAME", help="Reviewer of answers that name none.")
@click.option("--dry-run", is_flag=True, help="Check the answers, and record none.")
@json_option
def import_(queue: str, file: str, kind: str, reviewer: str, dry_run: bool, as_json: bool) -> None:
    """Record answers from a file.

    Repeated, it records nothing. An answer that can't be taken is listed with its item and a reason, and its item stays
    open; the exit code is then 2, after all others are recorded.
    """
    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.review.answer_csv import parse_csv
    from curation.review.imports import MOST_BYTES, import_answers
    from curation.review.label_studio import parse_tasks

    opened, path = open_queue_at(queue), Path(file)
    if path.stat().st_size > MOST_BYTES:
        fix = "export the tasks without pictures, or divide the file"
        raise UserError(f"{file} has more than {MOST_BYTES:,} bytes", fix=fix)
    parse = parse_csv if kind == "csv" else parse_tasks
    with progress("Importing", None, "answers") as tick:
        found = import_answers(opened, parse(path.read_bytes(), reviewer), dry_run=dry_run, tick=tick)
    if as_json:
        print_json({"queue": opened.sha256, "dry_run": dry_run, **found.to_json()})
    else:
        for finding in found.findings:
            click.echo(printable(f"  {finding}"), err=True)
        verb = "would record" if dry_run else "recorded"
        click.echo(f"{verb} {found.created:,} answers; {found.repeated:,} were there before")
    if found.findings:
        text = f"{file}: {len(found.findings):,} answers can't be taken, the first: {found.findings[0]}"
        raise UserError(text, fix="correct these rows and import the file again")


@click.command(epilog="\b\nExamples:\n  curate review annotate demo/queue --recorded votes.parquet\n"
               "  curate review annotate demo/queue --distribution votes.parquet --seed 1 --every 1000")  # fmt: skip
@queue_argument
@click.option("--recorded", metavar="URL", help="Replay votes: a Parquet table of uid and votes, or a column a class.")
@click.option("--distribution", metavar="URL", help="Simulate: draw from the votes or probabilities of such a table.")
@click.option("--confusion", metavar="URL", help="Simulate: a Parquet table of label and a column a class, with the "
              "probabilities of answers.")  # fmt: skip
@click.option("--truth", metavar="URL", help="With --confusion: a Parquet table of uid and label.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
@click.option("--every", metavar="N", type=click.IntRange(0),
              help="Report after every N answers, and rank the items left again if the queue or --weights names "
              "classifiers. 0: never. Default: as the queue says.")  # fmt: skip
@classifier_options
@json_option
def annotate(
    queue: str, recorded: str | None, distribution: str | None, confusion: str | None, truth: str | None, seed: int,
    every: int | None, as_json: bool, **classifiers: Any,
) -> None:  # fmt: skip
    """Let recorded or simulated annotators answer a queue until its budget is spent.

    For queues whose votes exist already, and for benches. Interrupted and repeated, it continues. Votes that can't be
    used are listed with their item and a reason, and the item stays open.
    """
    from curation.annotators import ANNOTATORS
    from curation.annotators.attribution import attributed
    from curation.core.progress import progress
    from curation.review.reranking import change_lines
    from curation.review.rounds import annotate as answer_queue
    from curation.review.rounds import report_lines
    from curation.review.status import status_of

    fields = {"distribution": distribution, "confusion": confusion, "truth": truth}
    simulated = {name: url for name, url in fields.items() if url}
    if bool(recorded) == bool(simulated):
        raise click.UsageError("name either --recorded, or --distribution, or --confusion with --truth")
    kind, given = ("recorded", {"votes": recorded}) if recorded else ("simulated", simulated)
    try:
        make: Any = ANNOTATORS[kind]
        annotator: Annotator = make(**given, seed=seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    opened = open_queue_at(queue)

    pin = opened.document.reranking
    every = every if every is not None else pin.every if pin is not None else 0
    ranked = every and (pin is not None or classifiers["weights"] is not None)
    ranker = ranking(opened, **classifiers) if ranked else None

    def report(order: Order | None) -> None:
        if not as_json:
            click.echo("\n".join(report_lines(annotator.about, status_of(opened))))
            if order is not None:
                click.echo("\n".join(attributed(annotator.about, change_lines(order))))

    with progress(annotator.about.capitalize(), opened.document.budget, "answers") as tick:
        found = answer_queue(opened, annotator, every=every, ranker=ranker, report=report, tick=tick)
    status = status_of(opened)
    for finding in found.findings:
        click.echo(printable(f"  {finding}"), err=True)
    if as_json:
        findings = [finding.to_json() for finding in found.findings]
        print_json({"queue": opened.sha256, "annotator": annotator.about, **status.to_json(), "votes": findings})
    else:
        click.echo("\n".join(report_lines(annotator.about, status)))


@click.command(epilog="\b\nExample:\n  curate review apply demo/queue --out demo/edits.parquet")
@queue_argument
@click.option("--out", required=True, metavar="URL", help="File for the edit list (Parquet).")
@click.option("--dry-run", is_flag=True, help="Count the corrections, and write nothing.")
@json_option
def apply(queue: str, out: str, dry_run: bool, as_json: bool) -> None:
    """Write the corrections as an edit list: a new label for each answered item whose label changes.

    Name the list under `edits:` of a recipe. Equal answers give an equal file.
    """
    from curation.core.progress import progress
    from curation.ledger.edit_lists import write_edit_list
    from curation.review.corrections import corrections

    opened = open_queue_at(queue)
    with progress("Reading answers", opened.document.items.rows, "items") as tick:
        edits, status = corrections(opened, tick)
    if not dry_run:
        write_edit_list(out, edits)
    if as_json:
        print_json({"queue": opened.sha256, "edits": edits.num_rows, "out": None if dry_run else out,
                    **status.to_json()})  # fmt: skip
        return
    click.echo(f"{'would write ' if dry_run else ''}{edits.num_rows:,} edits: {out}")
    if status.tied:
        text = f"{status.tied:,} items have answers, but no class is ahead"
        click.echo(f"{text}: their labels stay until another reviewer decides", err=True)
