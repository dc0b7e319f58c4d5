"""`curate proxy`: train small CLIP models for scoring, encode corpora with them, convert and list models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from curation.core import skipped
from curation.core.origins import ORIGINS, TRUSTED, expect_origins
from jobs.options import Command, FloatRange, json_option, print_json

if TYPE_CHECKING:
    from curation.learners.training import Training

DATA = "Directory or pattern of shards (damaged ones as far as readable), or a snapshot (URL@N)."


def origins_of(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """Return the origins of the option `--origins`, in their own order. Raises `BadParameter` for an unknown one."""
    names = {name.strip() for name in text.split(",")}
    try:
        expect_origins(sorted(names), "--origins")
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None
    return tuple(name for name in ORIGINS if name in names)


_TRAINING_OPTIONS = {
    "batch": click.option("--batch", default=128, show_default=True, type=click.IntRange(2), help="Pairs per batch."),
    "lr": click.option(
        "--lr", default=2e-3, show_default=True, type=FloatRange(0, min_open=True), help="Peak learning rate."
    ),
    "seed": click.option("--seed", default=0, show_default=True, help="Seed of weights and order of samples."),
    "holdout": click.option(
        "--holdout", default=0.05, show_default=True, type=FloatRange(0, 0.5),
        help="Share of names that is held out for evaluation; the samples of a name stay together.",
    ),
    "precision": click.option(
        "--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16"]),
        help="Precision of matrix products.",
    ),
    "device": click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    "threads": click.option(
        "--threads", default=0, help="CPU threads; they affect the trained weights. Default: one per core, at most 8."
    ),
    "weighted": click.option(
        "--weighted/--no-weighted", default=True, show_default=True,
        help="Draw a snapshot's samples by the sample weights in its manifest, or uniformly.",
    ),
    "origins": click.option(
        "--origins", default=",".join(TRUSTED), show_default=True, metavar="NAME,...", callback=origins_of,
        help="Origins of the samples to evaluate on, and of those that classifiers of folds judge; others are left out "
        "and counted. Of: " + ", ".join(ORIGINS) + ".",
    ),
    "force": click.option("--force", is_flag=True, help="Train again even if --out contains the same run."),
}  # fmt: skip


def training_options(*names: str) -> Callable[[Command], Command]:
    """Return a decorator that adds these training options, or all; `proxy train`, `learn` and `evaluate` share them."""

    def decorate(command: Command) -> Command:
        for name in reversed(names or tuple(_TRAINING_OPTIONS)):
            command = _TRAINING_OPTIONS[name](command)
        return command

    return decorate


@click.group()
def proxy() -> None:
    """Train, convert and list small CLIP models that score samples."""


TRAIN_EXAMPLES = """\b
Examples:
  curate proxy train --data demo/corpus --out demo/proxy
  curate proxy train --data s3://pool/trusted/{000..012}.tar --model proxy-s --out s3://models/proxy-s
  curate proxy train --objective dfn --data s3://trusted --pool s3://pool --model proxy-s --out s3://models/dfn
  curate proxy train --objective classes --label name --folds 5 --data s3://labelled --out s3://models/folds
"""


@proxy.command("train", epilog=TRAIN_EXAMPLES)
@click.option("--data", required=True, metavar="URL", help=DATA)
@click.option(
    "--objective",
    default="clip",
    show_default=True,
    type=click.Choice(["clip", "dfn", "classes"]),
    help="dfn: train a data filtering network, which rates the pairs of --pool by the trusted pairs of --data. "
    "classes: train classifiers of labels by folds, for the scorers of label cleaning.",
)
@click.option("--label", help="For classes: field of the json with the label. Default: name.")
@click.option("--folds", type=click.IntRange(2, 100), help="For classes: a classifier for each. Default: 5.")
@click.option("--runs", type=click.IntRange(1, 100), help="For classes: independent divisions into folds. Default: 1.")
@click.option("--pool", metavar="URL", help="For dfn: the shards to filter.")
@click.option("--model", default="proxy-ti", show_default=True, help="Model name; `curate proxy ls` lists them.")
@click.option("--out", required=True, metavar="URL", help="Directory for the weights and the model card.")
@click.option("--steps", default=400, show_default=True, type=click.IntRange(1), help="Number of updates.")
@training_options()
@json_option
def proxy_train(as_json: bool, objective: str, **arguments: Any) -> None:
    """Train a proxy on images and captions, and evaluate it.

    Writes safetensors and a model card. With --objective dfn, one half of each batch are trusted pairs and the other
    half are pairs of the pool, so that few trusted pairs count as much in CLIP's loss as the whole pool; `curate rooms
    scorers dfn` explains why.

    With --objective classes, the pictures are divided into --folds by a hash of their bytes, and a classifier for each
    fold is trained on the other folds, so that no sample is judged by a model that it was part of. --runs 2 and more
    repeat that with other folds and seeds, for the scorer `label_disagreement`. A command that was killed and is
    repeated trains the missing classifiers alone. --holdout has no effect: each fold is held out once. --model
    proxy-patches is fitted without steps, which takes seconds of a CPU and suits corpora of small pictures.

    Repeated with the same data and settings, the command does nothing. The same data, settings, machine and number of
    threads give the same sha256.
    """
    own = {name: arguments.pop(name) for name in ("label", "folds", "runs")}
    if objective != "classes" and (given := [name for name, value in own.items() if value is not None]):
        raise click.UsageError(f"--{given[0]} requires --objective classes")
    if (objective == "dfn") != bool(arguments["pool"]):
        raise click.UsageError("--objective dfn requires --pool, and --pool requires --objective dfn")
    if arguments["pool"] == arguments["data"]:
        raise click.UsageError("--data and --pool are the same corpus; name a trusted one with --data")
    if objective == "classes":
        _train_folds(as_json, own, **arguments)
        return
    job = training_job(**arguments)
    from curation.evaluation.card import report
    from curation.evaluation.training import run
    from curation.storage.store import open_store

    card = run(job)
    open_store(job.out).put("README.md", model_card(card).encode())
    if as_json:
        print_json(card)
    else:
        click.echo(f"{report(card)}\n\nfor a recipe:\n{recipe_lines(card)}")


def _train_folds(as_json: bool, own: dict[str, Any], **arguments: Any) -> None:
    """Train classifiers by folds. own: label, folds and runs; None for a default."""
    from curation.evaluation.fold_training import FoldTraining, report, run
    from curation.models.fold_classifiers import FoldRule

    job = training_job(**{**arguments, "holdout": 0.0})
    card = run(FoldTraining(job=job, label=own["label"] or "name", rule=FoldRule(own["folds"] or 5, own["runs"] or 1)))
    if as_json:
        print_json(card)
    else:
        click.echo(f"{report(card)}\n\nfor a recipe:\n{fold_recipe_lines(card)}")


def fold_recipe_lines(card: dict[str, Any]) -> str:
    """Return the lines that clean labels, to paste into a recipe."""
    file = f"model: {card['model']}, weights: {card['weights']}, sha256: {card['sha256']}"
    return "\n".join([
        "scorers:",
        f"  - label_error: {{{file}, label: {card['label']}}}",
        f"  - label_ambiguity: {{{file}}}",
        "filters:",
        "  - doubtful_labels: {by: active, count: 2000}",
    ])  # fmt: skip


@proxy.command("convert", epilog="\b\nExample:\n  curate proxy convert epoch_32.pt epoch_32.safetensors")
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
def proxy_convert(source: str, target: str) -> None:
    """Convert a torch checkpoint (.pt, .bin) to safetensors.

    Runs no code from the checkpoint. Prints the sha256 of the result.
    """
    from pathlib import Path

    from curation.models.weights import convert

    click.echo(f"{convert(Path(source), Path(target))}  {target}")


VECTORS_EXAMPLES = """\b
Examples:
  curate proxy vectors --data demo/corpus --model proxy-ti --weights demo/proxy/w.safetensors --sha256 9f2c --out pool
  curate proxy vectors --data s3://imagenet/train --samples 100000 ... --out s3://models/imagenet
"""


_ENCODING_OPTIONS = (
    click.option("--data", required=True, metavar="URL", help=DATA),
    click.option("--model", required=True, help="Model name; `curate proxy ls` lists them."),
    click.option("--weights", required=True, metavar="URL", help="The model's safetensors."),
    click.option("--sha256", required=True, help="SHA-256 of the weights."),
    _TRAINING_OPTIONS["device"],
    click.option("--out", required=True, metavar="URL", help="Directory for the result; its name contains its hash."),
)


def encoding_options(command: Command) -> Command:
    """Add the options that `vectors` and `clusters` share: a corpus, a proxy and where to write."""
    for option in reversed(_ENCODING_OPTIONS):
        command = option(command)
    return command


@proxy.command("vectors", epilog=VECTORS_EXAMPLES)
@encoding_options
@click.option(
    "--samples",
    default=4096,
    show_default=True,
    type=click.IntRange(1),
    help="Pairs to encode, chosen by a hash of their uids from 64 shards, or more if these have too few.",
)
@json_option
def proxy_vectors(as_json: bool, **arguments: Any) -> None:
    """Encode pairs of a corpus as vectors for other scorers.

    The scorers `negclip_loss`, `norm_sim` and `cluster` compare each sample with them. Writes a safetensors file with
    the tensors `image` and `text`, and prints its sha256 for a recipe.
    """
    from curation.curating.vectors import write_vectors

    found = write_vectors(**arguments)
    lines = [f"{found['vectors']:,} pairs of {arguments['data']}", f"  url: {found['url']}"]
    lines += [f"  sha256: {found['sha256']}", *skipped.lines(found["skipped"])]
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(lines))


CLUSTERS_EXAMPLES = """\b
Examples:
  curate proxy clusters --data demo/corpus --model proxy-ti --weights demo/proxy/w.safetensors --sha256 9f2c \\
    --clusters 100 --out centres
  curate proxy clusters --data s3://pool/laion --clusters 10000 --samples 1000000 ... --out s3://models/centres
"""


@proxy.command("clusters", epilog=CLUSTERS_EXAMPLES)
@encoding_options
@click.option("--clusters", required=True, type=click.IntRange(1), help="Number of centres.")
@click.option("--samples", type=click.IntRange(1), help="Samples to cluster. Default: 64 per centre.")
@click.option(
    "--of", default="image", show_default=True, type=click.Choice(["image", "text"]), help="Vectors to cluster."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the first centres.")
@json_option
def proxy_clusters(as_json: bool, **arguments: Any) -> None:
    """Cluster a corpus by k-means, for the scorer `cluster`.

    Runs spherical k-means on a sample of the corpus. The scorer assigns each sample to its nearest centre. Writes a
    safetensors file and prints its sha256 for a recipe.
    """
    from curation.curating.vectors import write_clusters

    found = write_clusters(**arguments)
    fields = f"centres: {found['url']}, centres_sha256: {found['sha256']}, of: {found['of']}"
    text = f"{found['clusters']:,} centres of {found['vectors']:,} {found['of']} vectors; for the scorer cluster:"
    if found["clusters"] < arguments["clusters"]:
        text += f" (fewer than {arguments['clusters']:,}, because the corpus has no more samples)"
    lines = [text, f"  {fields}", *skipped.lines(found["skipped"])]
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(lines))


@proxy.command("ls", epilog="\b\nExamples:\n  curate proxy ls\n  curate proxy ls --all")
@click.option("--all", "everything", is_flag=True, help="Also list the names of open_clip's architectures.")
@json_option
def proxy_ls(everything: bool, as_json: bool) -> None:
    """List the built-in proxies with parameters and FLOPs per sample."""
    from curation import models
    from curation.models.patch_config import ABOUT

    rows = [{"model": name, "about": about, **models.cost(name)._asdict()} for name, about in models.MODELS.items()]
    names = [name for name in models.model_names() if name not in models.MODELS] if everything else []
    if as_json:
        labels = [{"model": name, "about": about, "objective": "classes"} for name, about in ABOUT.items()]
        print_json([*rows, *labels, *({"model": name} for name in names)])
        return
    click.echo(f"{'model':<10} {'parameters':>11} {'image':>12} {'caption':>12}")
    for row in rows:
        flops = [f"{row[tower] / 1e6:,.0f} MFLOP" for tower in ("image_flops", "text_flops")]
        click.echo(
            f"{row['model']:<10} {row['parameters'] / 1e6:>9.1f} M {flops[0]:>12} {flops[1]:>12}  {row['about']}"
        )
    for name, about in ABOUT.items():
        click.echo(f"{name}, of --objective classes alone: {about}")
    click.echo("\n".join(names) if names else "Recipes can also name any architecture of open_clip; --all lists them.")


def training_job(**arguments: Any) -> Any:
    """A `curation.evaluation.job.TrainingJob` from the command line's options."""
    from curation.evaluation.job import TrainingJob

    names = ("steps", "batch", "lr", "seed", "precision")
    return TrainingJob(training=training_of(**{name: arguments.pop(name) for name in names}), **arguments)


def training_of(**settings: Any) -> Training:
    """Return training settings from the options of the command line. Raises `UserError` for one outside its range."""
    from curation.core.errors import UserError
    from curation.learners.training import Training

    try:
        return Training(**settings)
    except ValueError as error:
        raise UserError(f"--{error}", fix="choose a value in that range") from None


def recipe_lines(card: dict[str, Any]) -> str:
    """Return the lines to paste into a recipe."""
    scorer = "dfn" if "pool" in card else "clip_score"
    return f"  - {scorer}: {{model: {card['model']}, weights: {card['weights']}, sha256: {card['sha256']}}}"


def model_card(card: dict[str, Any]) -> str:
    """Return the README.md that accompanies the weights."""
    from curation.evaluation.card import report

    settings = "\n".join(f"- {name}: {value}" for name, value in card["recipe"]["training"].items())
    plain = {**card, "reused": False}
    pool = (
        f"- pool, half of each batch: {card['pool']} (sha256 of its listing {card['recipe']['pool_sha256']})\n"
        if "pool" in card
        else ""
    )
    return f"""# {card["model"]}

A CLIP dual encoder for scoring image-text pairs, trained by `curate proxy train`. Not a general-purpose model.

```
{report(plain)}
```

In a recipe:
```yaml
scorers:
{recipe_lines(card)}
```
In open_clip, without Tutelage:
```python
open_clip.add_model_config("{card["model"]}.json")
model = open_clip.create_model("{card["model"]}", pretrained="{card["key"]}")
```

## Training
- data: {card["data"]} ({card["samples"]["train"]} samples; sha256 of its listing {card["recipe"]["data_sha256"]})
{pool}- held out: {card["recipe"]["holdout"]:.0%} of names, by hash ({card["samples"]["held_out"]} samples)
{settings}

Licence: the terms of the training data determine how these weights may be used.
"""
