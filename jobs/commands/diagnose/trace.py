"""`curate diagnose trace`: rank training samples by how much they pulled a model towards its failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.commands.diagnose.arguments import (
    beside,
    data_option,
    failures_option,
    label_option,
    model_argument,
    scores_option,
)
from jobs.options import json_option, print_json

METHODS = ("dual_fisher", "dual_fisher_unscaled", "diagonal_fisher", "cosine", "dot", "last_layer", "loss")
MOST_LINES = 10  # samples that the text lists


@click.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/curated@2 --out trace\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/corpus --method cosine --out trace"
)
@model_argument
@failures_option
@data_option
@label_option
@click.option("--method", default="dual_fisher", show_default=True, type=click.Choice(METHODS),
              help="How samples are ranked; `loss` is the baseline.")  # fmt: skip
@click.option("--part", default="query", show_default=True, type=click.Choice(["query", "validation", "held_out"]),
              help="Part of the failures to trace.")  # fmt: skip
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Samples of the edit list.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="URL",
              help="Earlier weights of the same training, whose scores are added (repeatable).")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the training samples drawn for Fisher information.")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False),
              help="Folder for scores.parquet (every sample) and drops.parquet (an edit list).")  # fmt: skip
@scores_option
@json_option
def trace(
    model: str, failures_file: str, data: str, label: str, method: str, part: str, count: int,
    checkpoints: tuple[str, ...], seed: int, out: str, scores: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Rank training samples by how much they pulled the model towards its failures.

    Writes the score of every sample, and an edit list that drops the first. Look at them before you name the list in a
    recipe. Gradients are scored once; another set of failures costs one pass over them.
    """
    import pyarrow.parquet as pq

    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.diagnosis.trace import TRACE_SCHEMA
    from curation.diagnosis.tracing import drops, trace_failures
    from curation.evaluation.judges import weights_at
    from curation.ledger.edit_lists import write_edit_list

    subject, given = open_subject(model, label), read_failures(failures_file)
    earlier = [weights_at(url) for url in checkpoints]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    place = scores or beside(str(folder))
    with subject_scores(subject, data, place, gradients=True, checkpoints=earlier) as scored:
        partial = folder / "scores.parquet.part"
        with pq.ParquetWriter(partial, TRACE_SCHEMA, compression="zstd") as writer:
            found = trace_failures(
                subject, given, scored, method=method, count=count, part=part, checkpoints=earlier, seed=seed,
                write=writer.write_table,
            )  # fmt: skip
        partial.replace(folder / "scores.parquet")
    write_edit_list(str(folder / "drops.parquet"), drops(found.trace, subject, method))
    top = [{"uid": uid, "score": score} for uid, score in zip(found.trace.uids, found.trace.scores, strict=True)]
    if as_json:
        facts: dict[str, Any] = {"method": method, "samples": found.trace.samples, "failures": found.failures}
        print_json({**facts, "left_out": found.left_out, "predicted_loss_change": found.trace.predicted, "top": top})
        return
    click.echo(f"{found.trace.samples:,} samples ranked by {method} for {found.failures:,} failures: {out}")
    for row in top[:MOST_LINES]:
        click.echo(printable(f"  {row['score']:>10.4g}  {row['uid']}"))
    text = f"without these {len(top):,} the failures' mean loss would change by {found.trace.predicted:+.3g} nats"
    click.echo(f"{text} (first-order estimate)")
    for reason, number in sorted(found.left_out.items()):
        click.echo(f"  {number:>10,} failures left out: {reason}", err=True)
