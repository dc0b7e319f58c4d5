"""`curate diagnose failures`: find what a model gets wrong, and split it in three parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from jobs.commands.diagnose.arguments import against_option, beside, scores_option, scoring_on
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate diagnose failures demo/learned --out failures.parquet\n"
    "  curate diagnose failures demo/learned --data s3://field/may --expected seen.csv --out failures.parquet\n"
    "  curate diagnose failures demo/learned --data s3://field/may --queue field/queue --out failures.parquet\n"
    "  curate diagnose failures evaluation.json --where guess=normal --out failures.parquet"
)
@click.argument("source", metavar="MODEL|EVALUATION")
@click.option("--data", metavar="URL", help="Shards, or a snapshot (URL@N). Default: what the evaluation judged on, "
              "or what the run of `curate learn` held out.")  # fmt: skip
@click.option("--label", metavar="FIELD", help="Field of a sample's json that holds its label. Default: the "
              "evaluation's or the run's; else name.")  # fmt: skip
@click.option("--model", metavar="NAME", help="With an evaluation of several models: the one that failed.")
@click.option("--expected", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="CSV or Parquet with the columns uid and expected: look at these samples alone. "
              "Default: all samples whose label is not the model's guess.")  # fmt: skip
@click.option(
    "--queue", metavar="URL", help="Review queue: look at its answered samples alone, and expect the answers."
)
@against_option
@click.option("--where", multiple=True, metavar="KEY=CLASS",
              help="Only failures with this class as `expected` or `guess` (repeatable).")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the three parts.")
@click.option("--out", required=True, metavar="FILE", help="The file of failures.")
@scores_option
@json_option
def failures(
    source: str, data: str | None, label: str | None, model: str | None, expected: str | None, queue: str | None,
    against: str | None, where: tuple[str, ...], seed: int, out: str,
    scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Find what a model gets wrong, and split it: query, validation and held-out failures.

    EVALUATION is a file with the answer of `curate evaluate MODEL... --labels ... --json`. Its last labelling counts.
    Near-duplicates are in one part. `trace` reads the query; the other parts are for judging a repair.
    """
    from curation.diagnosis.failures import SHARES
    from curation.diagnosis.finding import corrected_labels, find_failures
    from curation.diagnosis.judged_data import judged_data
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.storage.store import open_object

    if expected and queue:
        raise click.UsageError("--expected and --queue both name the expected answers: give one of them")
    wanted = dict(map(_pair, where))
    answers = read_expected(expected) if expected else _verdicts(queue) if queue else None
    asked = judged_data(source, data, label, model=model)
    subject = open_subject(asked.model, asked.label, against=against)
    if against and answers is not None:
        raise click.UsageError("a pair is expected to match: --against takes neither --expected nor --queue")
    asked.expect(subject.weights)
    edits = asked.labelling().edits()
    place = scores or beside(out)
    with (
        scoring_on(executor, address) as on,
        subject_scores(subject, asked.data, place, gradients=False, more=asked.part.scorers(), executor=on) as scored,
    ):
        found = find_failures(
            subject, asked.data, scored, expected=answers, corrected=corrected_labels(scored, asked, edits),
            part=asked.part, where=wanted, seed=seed,
        )  # fmt: skip
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


def _verdicts(url: str) -> dict[str, str]:
    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.review.corrections import verdicts
    from curation.review.queue import open_queue

    queue = open_queue(url)
    with progress("Reading answers", queue.document.items.rows) as tick:
        found = verdicts(queue, tick)
    if not found:
        raise UserError(f"the queue {url} has no answered item", fix=f"answer it: curate review serve {url}")
    return found


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
