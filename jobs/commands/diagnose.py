"""`curate diagnose`: from a model's failures to the training samples behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json

METHODS = ("dual_fisher", "dual_fisher_unscaled", "diagonal_fisher", "cosine", "dot", "last_layer", "loss")
MOST_LINES = 10  # samples that the text lists

_data = click.option("--data", required=True, metavar="URL", help="Shards, or a snapshot (URL@N).")
_label = click.option("--label", default="name", show_default=True, metavar="FIELD",
                      help="Field of a sample's json that holds its label.")  # fmt: skip
_scores = click.option("--scores", metavar="URL", help="Folder of score tables; equal models and data share them. "
                       "Default: `scores` beside --out.")  # fmt: skip


@click.group(
    epilog="\b\nExamples:\n  curate diagnose failures demo/learned --data s3://field/may --out failures.parquet\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/curated@2 --out trace"
)
def diagnose() -> None:
    """Trace a model's failures to the training samples behind them.

    MODEL is a classifier of `curate learn`: its folder, or its safetensors file.
    """


@diagnose.command(
    epilog="\b\nExamples:\n  curate diagnose failures demo/learned --data s3://field/may --out failures.parquet\n"
    "  curate diagnose failures demo/learned --data s3://field/may --expected seen.csv --out failures.parquet\n"
    "  curate diagnose failures demo/learned --data held-out --where guess=normal --out failures.parquet"
)
@click.argument("model")
@_data
@_label
@click.option("--expected", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="CSV or Parquet with the columns uid and expected: look at these samples alone. "
              "Default: all samples whose label is not the model's guess.")  # fmt: skip
@click.option("--where", multiple=True, metavar="KEY=CLASS",
              help="Only failures with this class as `expected` or `guess` (repeatable).")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the three parts.")
@click.option("--out", required=True, metavar="FILE", help="The file of failures.")
@_scores
@json_option
def failures(
    model: str, data: str, label: str, expected: str | None, where: tuple[str, ...], seed: int, out: str,
    scores: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Find what a model gets wrong, and split it: query, validation and held-out failures.

    Near-duplicates are in one part. `trace` reads the query; the other parts are for judging a repair.
    """
    from curation.diagnosis.failures import SHARES
    from curation.diagnosis.finding import find_failures
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.storage.store import open_object

    wanted = dict(map(_pair, where))
    answers = read_expected(expected) if expected else None
    subject = open_subject(model, label)
    with subject_scores(subject, data, scores or _beside(out), gradients=False) as scored:
        found = find_failures(subject, data, scored, expected=answers, where=wanted, seed=seed)
    store, key = open_object(out)
    store.put(key, found.failures.to_bytes())
    parts = {part: found.failures.part(part).num_rows for part in SHARES}
    if as_json:
        rows = found.failures.table.num_rows
        print_json({"failures": rows, "judged": found.judged, "parts": parts, "refused": found.refused, "out": out})
        return
    text = ", ".join(f"{rows:,} {part}" for part, rows in parts.items())
    click.echo(f"{found.failures.table.num_rows:,} failures of {found.judged:,} samples: {text}")
    for reason, count in sorted(found.refused.items()):
        click.echo(f"  {count:>10,}  {reason}", err=True)


@diagnose.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/curated@2 --out trace\n"
    "  curate diagnose trace demo/learned --failures failures.parquet --data demo/corpus --method cosine --out trace"
)
@click.argument("model")
@click.option("--failures", "failures_file", required=True, metavar="FILE", help="Of `curate diagnose failures`.")
@_data
@_label
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
@_scores
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
    place = scores or _beside(str(folder))
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


def read_expected(path: str) -> dict[str, str]:
    """Read uid -> expected answer from CSV or Parquet. Raises `click.BadParameter` for another file."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    reader: Callable[[str], Any] = pq.read_table if path.endswith(".parquet") else csv.read_csv
    try:
        table = (
            reader(path).select(["uid", "expected"]).cast(pa.schema([("uid", pa.string()), ("expected", pa.string())]))
        )
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0]
        raise click.BadParameter(f"{path} has no columns uid and expected: {line}", param_hint="--expected") from None
    rows = [(row["uid"], row["expected"]) for row in table.to_pylist()]
    if bad := next((uid for uid, answer in rows if not uid or not answer), None):
        raise click.BadParameter(f"{path}: a row has no uid or no answer ({bad})", param_hint="--expected")
    if len(dict(rows)) < len(rows):
        raise click.BadParameter(f"{path} names a uid twice", param_hint="--expected")
    return dict(rows)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or key not in ("expected", "guess"):
        raise click.BadParameter(f"{text!r} is not expected=CLASS or guess=CLASS", param_hint="--where")
    return key, value


def _beside(out: str) -> str:
    """Return the default folder of score tables: `scores` beside `out`."""
    head, slash, _ = out.rstrip("/").rpartition("/")
    return f"{head}{slash}scores"
