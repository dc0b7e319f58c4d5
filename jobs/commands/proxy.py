"""`curate proxy`: train small CLIP models that score, convert foreign weights, list what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from curation.core import skipped
from jobs.options import Command, FloatRange, json_option, print_json

if TYPE_CHECKING:
    from curation.learners.training import Training

DATA = "A directory or pattern of shards (of a damaged one, what can be read is taken), or a snapshot (URL@N)."
_TRAINING_OPTIONS = {
    "batch": click.option("--batch", default=128, show_default=True, type=click.IntRange(2), help="Pairs in a batch."),
    "lr": click.option(
        "--lr", default=2e-3, show_default=True, type=FloatRange(0, min_open=True), help="Peak learning rate."
    ),
    "seed": click.option("--seed", default=0, show_default=True, help="Of the weights and of the order of samples."),
    "holdout": click.option(
        "--holdout", default=0.05, show_default=True, type=FloatRange(0, 0.5),
        help="Share of names (all samples of one name together) kept for evaluation.",
    ),
    "precision": click.option(
        "--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16"])
    ),
    "device": click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    "threads": click.option(
        "--threads", default=0, help="Of the CPU. Part of what decides the weights. Default: one a core, at most 8."
    ),
    "weighted": click.option(
        "--weighted/--no-weighted", default=True, show_default=True,
        help="Samples of a snapshot as often as they weigh in its manifest; or all alike.",
    ),
    "force": click.option("--force", is_flag=True, help="Train again even if the same run lies at --out."),
}  # fmt: skip


def training_options(*names: str) -> Callable[[Command], Command]:
    """These options of training, or all of them: `proxy train`, `learn` and `evaluate` share them."""

    def decorate(command: Command) -> Command:
        for name in reversed(names or tuple(_TRAINING_OPTIONS)):
            command = _TRAINING_OPTIONS[name](command)
        return command

    return decorate


@click.group()
def proxy() -> None:
    """Small CLIP models that score samples: train, convert, list."""


TRAIN_EXAMPLES = """\b
Examples:
  curate proxy train --data demo/corpus --out demo/proxy
  curate proxy train --data s3://pool/trusted/{000..012}.tar --model proxy-s --out s3://models/proxy-s
  curate proxy train --objective dfn --data s3://trusted --pool s3://pool --model proxy-s --out s3://models/dfn
"""


@proxy.command("train", epilog=TRAIN_EXAMPLES)
@click.option("--data", required=True, metavar="URL", help=DATA)
@click.option(
    "--objective",
    default="clip",
    show_default=True,
    type=click.Choice(["clip", "dfn"]),
    help="dfn: a network that filters --pool as --data, which is trusted, would have it.",
)
@click.option("--pool", metavar="URL", help="Of dfn: the shards that are to be filtered.")
@click.option("--model", default="proxy-ti", show_default=True, help="`curate proxy ls` lists them.")
@click.option("--out", required=True, metavar="URL", help="Directory for the weights and their card.")
@click.option("--steps", default=400, show_default=True, type=click.IntRange(1), help="Updates.")
@training_options()
@json_option
def proxy_train(as_json: bool, objective: str, **arguments: Any) -> None:
    """Train a proxy on pairs of images and captions, evaluate it, and write safetensors and a card.

    With --objective dfn each batch is half trusted pairs and half pairs of the pool, whatever the sizes of the two:
    CLIP's loss over all of them, in which the few trusted pairs weigh as much as the whole pool. `curate rooms scorers
    dfn` tells why.

    Repeated with the same data and settings it does nothing. The same data, settings, machine and number of threads
    give the same sha256.
    """
    if (objective == "dfn") != bool(arguments["pool"]):
        raise click.UsageError("--objective dfn and --pool go together: the pool is what the network is to filter")
    if arguments["pool"] == arguments["data"]:
        raise click.UsageError("--data and --pool are the same: the network would learn to tell nothing")
    job = training_job(**arguments)
    from curation.evaluation.training import report, run
    from curation.storage.store import open_store

    card = run(job)
    open_store(job.out).put("README.md", model_card(card).encode())
    if as_json:
        print_json(card)
    else:
        click.echo(f"{report(card)}\n\nfor a recipe:\n{recipe_lines(card)}")


@proxy.command("convert", epilog="\b\nExample:\n  curate proxy convert epoch_32.pt epoch_32.safetensors")
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
def proxy_convert(source: str, target: str) -> None:
    """Turn a torch checkpoint (.pt, .bin) into safetensors, without running code from it. Prints the sha256."""
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
    click.option("--model", required=True, help="`curate proxy ls` lists them."),
    click.option("--weights", required=True, metavar="URL", help="Its safetensors."),
    click.option("--sha256", required=True, help="What the weights hash to."),
    _TRAINING_OPTIONS["device"],
    click.option("--out", required=True, metavar="URL", help="Directory for the file, which is named by its content."),
)


def encoding_options(command: Command) -> Command:
    """The options of the commands that look at a corpus through a proxy: `vectors` and `clusters`."""
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
    help="Pairs, drawn by a hash of their uids from 64 shards, or as many as it takes; all, where there are fewer.",
)
@json_option
def proxy_vectors(as_json: bool, **arguments: Any) -> None:
    """Encode some pairs of a corpus: what `negclip_loss`, `norm_sim` and `cluster` compare a sample with.

    Writes a safetensors file of two tensors, `image` and `text`, and prints its sha256 for a recipe.
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
@click.option("--clusters", required=True, type=click.IntRange(1), help="Centres to find.")
@click.option("--samples", type=click.IntRange(1), help="Of the corpus, to find them among. Default: 64 a centre.")
@click.option("--of", default="image", show_default=True, type=click.Choice(["image", "text"]), help="What to cluster.")
@click.option("--seed", default=0, show_default=True, help="Of where the centres begin.")
@json_option
def proxy_clusters(as_json: bool, **arguments: Any) -> None:
    """Find the neighbourhoods of a corpus: centres, to the nearest of which the scorer `cluster` assigns each sample.

    Spherical k-means over a sample of the corpus. Writes a safetensors file and prints its sha256 for a recipe.
    """
    from curation.curating.vectors import write_clusters

    found = write_clusters(**arguments)
    fields = f"centres: {found['url']}, centres_sha256: {found['sha256']}, of: {found['of']}"
    text = f"{found['clusters']:,} centres of {found['vectors']:,} {found['of']} vectors; for the scorer cluster:"
    if found["clusters"] < arguments["clusters"]:
        text += f" (fewer than {arguments['clusters']:,}: there are no more samples)"
    lines = [text, f"  {fields}", *skipped.lines(found["skipped"])]
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(lines))


@proxy.command("ls", epilog="\b\nExamples:\n  curate proxy ls\n  curate proxy ls --all")
@click.option("--all", "everything", is_flag=True, help="The names of open_clip's architectures too.")
@json_option
def proxy_ls(everything: bool, as_json: bool) -> None:
    """List our proxies with what they cost: parameters, and FLOPs of one image and one caption."""
    from curation import models

    rows = [{"model": name, "about": about, **models.cost(name)._asdict()} for name, about in models.MODELS.items()]
    names = [name for name in models.model_names() if name not in models.MODELS] if everything else []
    if as_json:
        print_json([*rows, *({"model": name} for name in names)])
        return
    click.echo(f"{'model':<10} {'parameters':>11} {'image':>12} {'caption':>12}")
    for row in rows:
        flops = [f"{row[tower] / 1e6:,.0f} MFLOP" for tower in ("image_flops", "text_flops")]
        click.echo(
            f"{row['model']:<10} {row['parameters'] / 1e6:>9.1f} M {flops[0]:>12} {flops[1]:>12}  {row['about']}"
        )
    click.echo("\n".join(names) if names else "Any architecture of open_clip can be named too; --all lists them.")


def training_job(**arguments: Any) -> Any:
    """A `curation.evaluation.training.Job` from the command line's options."""
    from curation.evaluation.training import TrainingJob

    names = ("steps", "batch", "lr", "seed", "precision")
    return TrainingJob(training=training_of(**{name: arguments.pop(name) for name in names}), **arguments)


def training_of(**settings: Any) -> Training:
    """The settings of a training from the command line's options. Raises `UserError` for one outside its range."""
    from curation.core.errors import UserError
    from curation.learners.training import Training

    try:
        return Training(**settings)
    except ValueError as error:
        raise UserError(f"--{error}", fix="the option with a value in that range") from None


def recipe_lines(card: dict[str, Any]) -> str:
    """What to paste into a recipe."""
    scorer = "dfn" if "pool" in card else "clip_score"
    return f"  - {scorer}: {{model: {card['model']}, weights: {card['weights']}, sha256: {card['sha256']}}}"


def model_card(card: dict[str, Any]) -> str:
    """README.md beside the weights."""
    from curation.evaluation.training import report

    settings = "\n".join(f"- {name}: {value}" for name, value in card["recipe"]["training"].items())
    plain = {**card, "reused": False}
    pool = (
        f"- pool, half of each batch: {card['pool']} (its listing {card['recipe']['pool_sha256']})\n"
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

Licence: the training data's terms decide what may be done with these weights.
"""
