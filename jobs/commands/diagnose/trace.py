"""`curate diagnose trace`: rank training samples by how much they pulled a model towards its failures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from curation.core.printable import printable
from jobs.commands.diagnose.arguments import (
    against_option,
    beside,
    failed_model_options,
    scores_option,
    scoring_on,
)
from jobs.options import json_option, print_json

METHODS = ("dual_fisher", "dual_fisher_unscaled", "diagonal_fisher", "cosine", "dot", "last_layer", "loss")
MOST_LINES = 10  # samples that the text lists


@click.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/curated@2 --out trace\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/corpus --method cosine --out trace"
)
@failed_model_options
@click.option("--method", default="dual_fisher", show_default=True, type=click.Choice(METHODS),
              help="How samples are ranked; `loss` is the baseline.")  # fmt: skip
@click.option("--part", default="query", show_default=True, type=click.Choice(["query", "validation", "held_out"]),
              help="Part of the failures to trace.")  # fmt: skip
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Samples of the edit list.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="URL",
              help="Earlier weights of the same training, whose scores are added (repeatable).")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the training samples drawn for Fisher information.")
@click.option("--queue", metavar="URL", help="Also create a review queue of the first samples here: look before you "
              "drop.")  # fmt: skip
@click.option("--budget", type=click.IntRange(1), help="Answers of the queue. Default: one a sample.")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False),
              help="Folder for scores.parquet (every sample), drops.parquet (edits) and trace.json.")  # fmt: skip
@against_option
@scores_option
@json_option
def trace(
    model: str, failures_file: str, data: str, label: str, method: str, part: str, count: int,
    checkpoints: tuple[str, ...], seed: int, queue: str | None, budget: int | None, against: str | None, out: str,
    scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Rank training samples by how much they pulled the model towards its failures.

    Writes the score of every sample, and an edit list that drops the first. Look at them before you name the list in a
    recipe. Gradients are scored once; another set of failures costs one pass over them.
    """
    import pyarrow.parquet as pq

    from curation.core.progress import progress
    from curation.diagnosis.doubted import queue_of_trace
    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.diagnosis.trace import TRACE_SCHEMA
    from curation.diagnosis.trace_document import trace_document
    from curation.diagnosis.tracing import drops, trace_failures
    from curation.evaluation.judges import weights_at
    from curation.ledger.edit_lists import write_edit_list

    subject, given = open_subject(model, label, against=against), read_failures(failures_file)
    if against and queue:
        raise click.UsageError("pairs have no labels to review: --against takes no --queue")
    earlier = [weights_at(url) for url in checkpoints]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    place = scores or beside(str(folder))
    with (
        scoring_on(executor, address) as on,
        subject_scores(subject, data, place, gradients=True, checkpoints=earlier, executor=on) as scored,
    ):
        partial = folder / "scores.parquet.part"
        with pq.ParquetWriter(partial, TRACE_SCHEMA, compression="zstd") as writer:
            found = trace_failures(
                subject, given, scored, method=method, count=count, part=part, checkpoints=earlier, seed=seed,
                write=writer.write_table,
            )  # fmt: skip
        partial.replace(folder / "scores.parquet")
        document = trace_document(
            subject, given, scored, found, method=method, part=part, data=data, checkpoints=earlier, seed=seed
        )
        if queue is not None:
            with progress("Reading samples", len(document["top"])) as tick:
                queue_of_trace(queue, document, subject, scored, budget=budget or len(document["top"]), tick=tick)
    write_edit_list(str(folder / "drops.parquet"), drops(found.trace, subject, method))
    (folder / "trace.json").write_text(json.dumps(document, indent=1))
    top = document["top"]
    if as_json:
        print_json(document)
        return
    click.echo(f"{found.trace.samples:,} samples ranked by {method} for {len(found.failures):,} failures: {out}")
    for row in top[:MOST_LINES]:
        click.echo(printable(f"  {row['score']:>10.4g}  {row['uid']}  {row['label']}"))
    text = f"without these {len(top):,} the failures' mean loss would change by {found.trace.predicted:+.3g} nats"
    click.echo(f"{text} (first-order estimate)")
    if queue is not None:
        click.echo(f"a queue of them: curate review serve {queue}")
    for reason, number in sorted(found.left_out.items()):
        click.echo(f"  {number:>10,} failures left out: {reason}", err=True)
