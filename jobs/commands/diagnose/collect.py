"""`curate diagnose collect`: samples of a pool that are like a type of failure, as an edit list."""

from __future__ import annotations

import click

from curation.core.printable import printable
from jobs.commands.diagnose.arguments import beside, model_argument, scores_option, scoring_on
from jobs.options import FloatRange, json_option, print_json

BY = ("centroid", "classifier")
MOST_LINES = 10  # samples that the text lists


@click.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose collect demo/learned --types types --type 0 --pool s3://pool --count 500 --out edits.parquet\n"
    "  curate diagnose collect demo/learned --types types --type 0 --pool marked --verb add --out added.parquet"
)
@model_argument
@click.option("--types", "folder", required=True, metavar="DIR", help="--out of `curate diagnose types`.")
@click.option("--type", "name", required=True, metavar="NAME", help="A validated type, as types.json names it.")
@click.option(
    "--pool", required=True, metavar="URL", help="Shards, or a snapshot (URL@N): not the data of the failures."
)
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Samples to collect.")
@click.option("--by", default="centroid", show_default=True, type=click.Choice(BY),
              help="Similarity to the type's mean features, or a classifier of the type.")  # fmt: skip
@click.option("--label", metavar="FIELD", help="Collect only samples whose label in this field of the json is the "
              "type's expected answer.")  # fmt: skip
@click.option("--verb", default="weight", show_default=True, type=click.Choice(["weight", "add"]),
              help="weigh samples of a recipe's corpus, or add them from marked shards.")  # fmt: skip
@click.option("--weight", default=3.0, show_default=True, type=FloatRange(0, min_open=True), help="Of `weight`.")
@click.option("--out", required=True, metavar="FILE", help="The edit list.")
@scores_option
@json_option
def collect(
    model: str, folder: str, name: str, pool: str, count: int, by: str, label: str | None, verb: str, weight: float,
    out: str, scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Collect the samples of a pool that are most like a type of failure, as an edit list for `curate run`.

    The pool is scored with the failing model once. Failures, their copies and their near-duplicates are never
    collected, since they judge what the collection is worth.
    """
    from curation.diagnosis.collecting import collect as collected
    from curation.diagnosis.collecting import edit_list, read_query
    from curation.diagnosis.subject import open_subject
    from curation.ledger.edit_lists import write_edit_list

    subject = open_subject(model, label or "name")
    query = read_query(subject, folder, name, by)
    with scoring_on(executor, address) as on:
        found = collected(subject, query, pool, scores or beside(out), count=count, label=label, executor=on)
    write_edit_list(out, edit_list(found, subject, query, "add" if verb == "add" else "weight", weight))
    top = [{"uid": uid, "score": score} for uid, score in zip(found.uids, found.scores, strict=True)]
    if as_json:
        print_json({"type": name, "by": by, "ranked": found.ranked, "refused": found.refused, "out": out, "top": top})
        return
    click.echo(f"{len(top):,} of {found.ranked:,} samples, by {by} of type {name}: {out}")
    for row in top[:MOST_LINES]:
        click.echo(printable(f"  {row['score']:>10.4g}  {row['uid']}"))
    for reason, number in sorted(found.refused.items()):
        click.echo(f"  {number:>10,} not collected: {reason}", err=True)
