"""`curate diagnose erase`: unlearn traced training samples, and say what that fixed and what it cost."""

from __future__ import annotations

import click

from jobs.commands.diagnose.arguments import beside, failed_model_options, scores_option, scoring_on
from jobs.commands.diagnose.repair import report, summary
from jobs.options import FloatRange, json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate diagnose erase demo/learned --failures failures.parquet --data demo/curated@2 "
    "--drops trace/drops.parquet --out erased\n  curate diagnose erase demo/learned --failures failures.parquet "
    "--data demo/curated@2 --drops trace/drops.parquet --retrain learn.yaml --out erased"
)
@failed_model_options
@click.option("--drops", required=True, metavar="FILE",
              help="Edit list whose `drop`s are erased, such as drops.parquet of `curate diagnose trace`.")  # fmt: skip
@click.option("--retrain", metavar="RECIPE.yaml",
              help="Also train again without the drops, by this recipe of `curate learn`, and compare.")  # fmt: skip
@click.option("--steps", default=60, show_default=True, type=click.IntRange(1), help="Updates, at most.")
@click.option("--lr", default=3e-4, show_default=True, type=FloatRange(0, 1, min_open=True), help="Step size.")
@click.option("--strength", default=1000.0, show_default=True, type=FloatRange(0),
              help="Of the penalty that holds the weights (Fisher information).")  # fmt: skip
@click.option("--keep", default=0.93, show_default=True, type=FloatRange(0, 1),
              help="Share of correct samples of each class that stays right.")  # fmt: skip
@click.option("--right", default=4000, show_default=True, type=click.IntRange(20),
              help="Correct samples drawn from the data: half to tune on, the rest to stop and to judge.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of draws and batches.")
@click.option("--out", required=True, metavar="URL",
              help="Folder for weights.safetensors, card.json, drops.parquet and retrain/.")  # fmt: skip
@scores_option
@json_option
def erase(
    model: str, failures_file: str, data: str, label: str, drops: str, retrain: str | None, steps: int, lr: float,
    strength: float, keep: float, right: int, seed: int, out: str,
    scores: str | None, executor: str, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Unlearn the samples that a list drops, without training again.

    Tuning raises the loss on them, and holds every class by batches of other samples and a penalty. It stops by the
    validation failures; the held-out ones judge. DATA is what the model was trained on. Weights for tonight: drop the
    samples from the data, and train again (the last line says how).
    """
    from curation.diagnosis.erase import EraseSettings
    from curation.diagnosis.erasing import erase_samples
    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.ledger.edit_lists import read_edit_list

    settings = EraseSettings(steps=steps, lr=lr, strength=strength, keep=keep, right=right, seed=seed)
    subject, given, edits = open_subject(model, label), read_failures(failures_file), read_edit_list(drops)
    with (
        scoring_on(executor, address) as on,
        subject_scores(subject, data, scores or beside(out), gradients=False, executor=on) as scored,
    ):
        card = erase_samples(subject, given, scored, edits, data=data, out=out, settings=settings, recipe=retrain)
    if as_json:
        print_json(card)
        return
    number = sum(card["causes"]["by_class"].values())
    click.echo(f"{number:,} samples erased: {summary(card['strategies']['erase']['after'])}")
    report(card)
    if (again := card.get("retrained")) is not None:
        click.echo(f"retrained: {summary(again['after'])}; same answer on {again['agreement']:.3f} of them")
        cost = again["cost"]
        click.echo(f"erasing took {cost['flops']:.1%} of its FLOPs and {cost['seconds']:.1%} of its seconds")
    for reason, count in sorted(card["causes"]["left_out"].items()):
        click.echo(f"  {count:>10,} drops left out: {reason}", err=True)
    click.echo(f"again    {card['again']['command']}")
