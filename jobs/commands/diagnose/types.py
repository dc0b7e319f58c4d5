"""`curate diagnose types`: which kinds of failure there are, shown by tuning the model on each alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.commands.diagnose.arguments import beside, failed_model_options, scores_option, scoring_on
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose types demo/learned --failures failures.parquet --data demo/curated@2 --out types\n"
    "  curate diagnose types demo/learned --failures failures.parquet --data demo/corpus --projection umap --out types"
)
@failed_model_options
@click.option("--projection", default="pca", show_default=True, type=click.Choice(["pca", "umap"]),
              help="Where gradients are grouped; umap needs the extra `diagnosis`.")  # fmt: skip
@click.option("--across", is_flag=True, help="Group the failures of all sides of a decision together. "
              "Independence proves nothing then.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), help="Most steps of tuning on one group. Default: 60.")
@click.option("--seed", default=0, show_default=True, help="Seed of groups, of samples mixed in, of batches.")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False),
              help="Folder for types.json, types.parquet (members) and queries.parquet (for `collect`).")  # fmt: skip
@scores_option
@json_option
def types(
    model: str, failures_file: str, data: str, label: str, projection: str, across: bool, steps: int | None, seed: int,
    out: str, scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Group failures by the repair that they need, and measure whether each group is a type of its own.

    The model is tuned on each group alone and judged on held-out failures of all: the matrix A. Groups that are not
    independent are merged. A killed command goes on with the groups that it has measured.
    """
    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.finding_types import find_types, write_types
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.diagnosis.type_tuning import TypeTuning

    subject, given, folder = open_subject(model, label), read_failures(failures_file), Path(out)
    tuning = TypeTuning(seed=seed) if steps is None else TypeTuning(seed=seed, most=steps)
    with (
        scoring_on(executor, address) as on,
        subject_scores(subject, data, scores or beside(out), gradients=False, executor=on) as scored,
    ):
        found = find_types(
            subject, given, scored, folder, projection=projection, across=across, tuning=tuning, seed=seed
        )  # fmt: skip
    write_types(found, folder)
    if as_json:
        print_json(found.document)
        return
    click.echo(printable(_text(found.document)))
    for reason, number in sorted(found.document["left_out"].items()):
        click.echo(f"  {number:>10,} failures left out: {reason}", err=True)


def _text(document: Mapping[str, Any]) -> str:
    """Return the lines about each side: its types, their row of A, and what was not shown."""
    lines, types = [], {one["type"]: one for one in document["types"]}
    for side in document["sides"]:
        lines.append(f"{side['expected']} as {side['guess']}: {side['failures']:,} failures")
        for name, row in zip(side["types"], side.get("matrix", ()), strict=True):
            numbers = "  ".join("   -" if value is None else f"{value:.2f}" for value in row)
            size = types[name]["members"] + types[name]["held_out"]
            lines.append(f"  type {name}: {numbers}  {size:,} failures, {types[name]['name']}")
        for what in ("learnability", "independence"):
            if side.get(what) is not None:
                low, high = side[f"{what}_interval"]
                lines.append(f"  {what} {side[what]:.2f} ({low:.2f} to {high:.2f})")
        for merge in side.get("merges", ()):
            about = f"independence {merge['independence']:.2f} of the pair"
            lines.append(f"  {merge['one']} and {merge['other']} are merged: {about}")
        lines += [f"  not shown: {text}" for text in side["not_shown"]]
    return "\n".join(lines)
