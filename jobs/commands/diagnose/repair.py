"""`curate diagnose repair`: fine-tune a model on its failures, and judge on others what that fixed and forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from jobs.commands.diagnose.arguments import beside, failed_model_options, scores_option, scoring_on
from jobs.options import FloatRange, json_option, print_json

STRATEGIES = ("failures", "mixed", "ewc")


@click.command(
    epilog="\b\nExamples:\n"
    "  curate diagnose repair demo/learned --failures failures.parquet --data demo/curated@2 --out repaired\n"
    "  curate diagnose repair demo/learned --failures f.parquet --data demo/corpus --strategy mixed --out repaired"
)
@failed_model_options
@click.option("--strategy", default="all", show_default=True, type=click.Choice([*STRATEGIES, "all"]),
              help="Tune on failures, on as many correct samples, too (mixed), or with a penalty (ewc).")  # fmt: skip
@click.option("--steps", default=200, show_default=True, type=click.IntRange(1), help="Updates, at most.")
@click.option("--lr", default=3e-4, show_default=True, type=FloatRange(0, 1, min_open=True), help="Step size.")
@click.option("--strength", default=1e5, show_default=True, type=FloatRange(0), help="Of the penalty of ewc.")
@click.option("--keep", default=0.93, show_default=True, type=FloatRange(0, 1),
              help="Share of correct samples that stays right; weights that keep less are never written.")  # fmt: skip
@click.option("--right", default=4000, show_default=True, type=click.IntRange(20),
              help="Correct samples drawn from the data: half to tune on, the rest to stop and to judge.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of draws and batches.")
@click.option("--out", required=True, metavar="URL", help="Folder for weights.safetensors and card.json.")
@scores_option
@json_option
def repair(
    model: str, failures_file: str, data: str, label: str, strategy: str, steps: int, lr: float, strength: float,
    keep: float, right: int, seed: int, out: str, scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Fine-tune a model on its query failures, and judge it on those held out.

    Tuning stops by the validation failures and by samples that the model was right about. Of several strategies, the
    best by validation is written, with a card of what was measured for all. DATA is what the model was trained on.
    A strategy that has finished is not repeated.
    """
    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.repair import RepairSettings
    from curation.diagnosis.repairing import repair_failures
    from curation.diagnosis.subject import open_subject, subject_scores

    settings = RepairSettings(steps=steps, lr=lr, strength=strength, keep=keep, right=right, seed=seed)
    subject, given = open_subject(model, label), read_failures(failures_file)
    with (
        scoring_on(executor, address) as on,
        subject_scores(subject, data, scores or beside(out), gradients=False, executor=on) as scored,
    ):
        card = repair_failures(
            subject, given, scored, data=data, out=out, settings=settings,
            strategies=STRATEGIES if strategy == "all" else (strategy,),
        )  # fmt: skip
    if as_json:
        print_json(card)
        return
    for name, found in card["strategies"].items():
        chosen = "written" if name == card["chosen"] else ""
        click.echo(f"{name:<10} {summary(found['after'])}  {chosen}".rstrip())
    report(card)


def summary(after: Mapping[str, Any]) -> str:
    """Return what held-out samples say, in a line."""
    fixed, kept = after["failures"]["held_out"], after["right"]["held_out"]
    return f"{rate(fixed)} of {fixed['total']:,} held-out failures right, {rate(kept)} of {kept['total']:,} kept"


def rate(found: Mapping[str, Any]) -> str:
    """Return a share with its interval."""
    return f"{found['rate']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def report(card: Mapping[str, Any]) -> None:
    """Print what was kept of each class, the cost, and where the weights are."""
    from curation.core.printable import printable

    found = card["strategies"][card["chosen"]]
    for name, one in found["after"]["right"]["held_out"]["by_class"].items():
        click.echo(printable(f"  kept of {name}: {rate(one)} of {one['total']:,}"))
    click.echo(f"cost     {found['flops'] / 1e9:,.1f} GFLOP, {found['seconds']:.1f} s")
    click.echo(f"weights  {card['weights']}\nsha256   {card['sha256']}")
    for reason, number in sorted(card["left_out"].items()):
        click.echo(f"  {number:>10,} failures left out: {reason}", err=True)
