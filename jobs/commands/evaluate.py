"""`curate evaluate`: compare snapshots with their source by training on both, or models under several labellings.

The text of evaluations for `show` and `diff` is here, too; that of labellings in `label_report`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable_lines
from jobs.commands.proxy import training_of, training_options
from jobs.engine import Choice, connected, executor_option, named, on_executor
from jobs.options import FloatRange, json_option, print_json

if TYPE_CHECKING:
    from curation.core.executor import Executor
    from curation.evaluation.evaluate import PlannedEvaluation

TITLES = {"recall@1": "recall@1", "recall@5": "recall@5", "zero_shot": "zero-shot"}
Row = tuple[str, str, Mapping[str, str]]  # label, samples, text by metric


@click.command(
    epilog="\b\nExamples:\n  curate evaluate demo/curated --against demo/corpus --holdout 0.1\n"
    "  curate evaluate s3://curated/a s3://curated/b@3 --against s3://pool/test --model proxy-s --device cuda --seeds 5"
    "\n  curate evaluate a.safetensors b.safetensors --against test --labels before,after --edits edits.parquet"
)
@click.argument("models", metavar="OUT[@N]|MODEL...", nargs=-1, required=True)
@click.option(
    "--against",
    required=True,
    metavar="URL",
    help="Held-out samples: shards (damaged ones as far as they can be read) or a snapshot; at most 4,000 are used.",
)
@click.option(
    "--holdout",
    default=0.0,
    show_default=True,
    type=FloatRange(0, 0.5),
    help="Share of names to judge on, and to train no model on: for held-out names of the same corpus.",
)
@click.option("--model", default="proxy-ti", show_default=True, help="`curate proxy ls --all` lists them.")
@click.option("--steps", default=400, show_default=True, type=click.IntRange(1), help="Updates of every model.")
@training_options("batch", "lr", "precision")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Models of each arm.")
@click.option("--raw/--no-raw", default=True, show_default=True, help="Also train on the whole source corpus.")
@click.option(
    "--random/--no-random",
    default=True,
    show_default=True,
    help="Also train on random parts of the source corpus, as large as the snapshot.",
)
@training_options("origins")
@click.option(
    "--labels",
    metavar="NAME[=LIST],...",
    help="Compare models under these labellings of the held-out samples: `before` (as stored), `after` (with --edits "
    "applied), NAME=LIST (with another edit list) or NAME=stored.",
)
@click.option("--edits", multiple=True, metavar="LIST", help="With --labels: an edit list of `after` (repeatable).")
@click.option("--label", metavar="FIELD", help="With --labels: json field with the label. Default: name.")
@click.option("--runs", metavar="URL", help="Folder of the models. Default: runs/ below the first snapshot's output.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Models trained at once; 1 trains in this process. Default: as many as the executor can run.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="CPU threads of a model. They determine the last bits of its weights.",
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@executor_option
@click.option("--address", help="Ray cluster to run on. Default: RAY_ADDRESS.")
@json_option
@click.pass_context
def evaluate(
    context: click.Context, /, models: tuple[str, ...], against: str, workers: int | None, executor: str,
    address: str | None, as_json: bool, steps: int, batch: int, lr: float, precision: str, labels: str | None,
    edits: tuple[str, ...], label: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Compare snapshots with their source corpus, or models under several labellings.

    Trains the same small CLIP for the same compute on each snapshot, on its source, and on random parts of the source,
    judges all on held-out samples, and attaches the result to the snapshot.

    No model is trained twice: repeat an interrupted command to continue it. Models of one source are shared.

    With --labels, models are ranked on the held-out samples under several labellings, such as before and after a
    review. MODEL is safetensors of `curate learn` or `curate proxy train`, the folder of such a run, or a Parquet file
    of probabilities; OUT[@N] stands for the models that are trained on a snapshot. Each model judges each sample once.
    """
    choice = named(executor, address)
    from curation.evaluation.evaluate import is_dataset, plan_evaluation
    from curation.evaluation.labellings import labellings

    if labels is None and (edits or label):
        raise click.UsageError(f"--{'edits' if edits else 'label'} requires --labels")
    wanted = None if labels is None else labellings(labels, edits)
    training = training_of(steps=steps, batch=batch, lr=lr, precision=precision)
    datasets = models if wanted is None else [url for url in models if is_dataset(url)]
    if not datasets and (given := [name for name in _OF_SNAPSHOTS if _is_given(context, name)]):
        raise click.UsageError(f"--{given[0]} is for snapshots, and none is named")
    planned = plan_evaluation(datasets, against, training=training, **settings) if datasets else None
    if planned is not None and planned.todo:
        choice = choice or connected() or Choice("local", "no cluster is named")
        if not as_json:
            click.echo(str(choice), err=True)
        _train(planned, choice, address, workers)
    if wanted is not None:
        shared = {name: settings[name] for name in ("holdout", "origins", "device", "threads")}
        _under_labels(models, planned, as_json, against=against, labellings=wanted, label=label or "name", **shared)
        return
    assert planned is not None, "at least one snapshot is named"
    found = planned.attach()
    if as_json:
        print_json({"judged": found.judged, "evaluations": found.documents})
        return
    click.echo(printable_lines(line for document in found.documents for line in report(document)))
    done = f"judged {found.judged:,} models, and trained those that did not exist"
    click.echo(done if found.judged else "nothing to train: all of these models exist and are judged")


_OF_SNAPSHOTS = ("model", "steps", "batch", "lr", "precision", "seeds", "raw", "random", "runs", "workers")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _under_labels(models: Sequence[str], planned: PlannedEvaluation | None, as_json: bool, **asked: Any) -> None:
    """Judge trained models under several labellings, and print the ranks."""
    from curation.evaluation.evaluate import named_models
    from curation.evaluation.label_evaluation import LabelEvaluation, evaluate_labels
    from jobs.commands.label_report import label_report

    found = evaluate_labels(LabelEvaluation(models=named_models(models, planned), **asked))
    if as_json:
        print_json(found)
    else:
        click.echo(printable_lines(label_report(found)))


def _train(planned: PlannedEvaluation, choice: Choice, address: str | None, workers: int | None) -> None:
    """Train and judge the missing models on the chosen executor."""
    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.evaluation.evaluate import run_trials

    def task(engine: Executor) -> None:
        if (
            planned.protocol.device == "cuda"
            and not engine.capacity().gpus
            and not (address or os.environ.get("RAY_ADDRESS"))
        ):
            raise UserError("device cuda: this machine has no GPU", fix="--device cpu, or an --address with GPUs")
        run_trials(planned.todo, engine, workers, tick)

    with progress("Training and judging", len(planned.todo), "models") as tick:
        on_executor(choice, address, task)


def report(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield an evaluation as lines of text: a table of means, differences with intervals, and the cost of a model."""
    from curation.core.intervals import Estimate
    from curation.dataset.evaluations import ARMS, by_seed, minus

    arms = {arm: document["arms"][arm] for arm in ARMS if arm in document["arms"]}
    run = arms["curated"]["runs"][0]
    differences, intervals = minus({arm: by_seed(found["runs"]) for arm, found in arms.items()})
    yield f"evaluation of @{document['snapshot']} on {_held_out(document, intervals, len(arms['curated']['runs']))}"
    rows: list[Row] = []
    for arm, found in arms.items():
        means = {name: str(Estimate(**value)) for name, value in found["mean"].items()}
        rows.append((arm, f"{found['samples']:,}", means))
    rows += [(f"- {arm}", "", _words(found)) for arm, found in differences.items()]
    yield from table(rows)
    seeds = ", ".join(str(one["seed"]) for one in arms["curated"]["runs"])
    seconds = sum(one["seconds"] for arm in arms.values() for one in arm["runs"])
    cost = f"{run['samples_seen']:,} samples seen, {run['flops'] / 1e12:.2f} TFLOP"
    yield f"  each model: {_settings(document)}: {cost}; seeds {seeds}; {seconds:,.0f} s of training in all"
    yield from _overlap_warning(document["overlap"], document["held_out"])
    yield from (f"  WARNING: {line}" for line in document.get("seen", ()))
    if document.get("weighted"):
        yield "  its own models trained on each sample as often as its weight in the manifest"


def changes(found: Sequence[Mapping[str, Any]], before: str, after: str) -> Iterator[str]:
    """Yield evaluations of two snapshots side by side, as lines of text. `before` and `after`: their names."""
    from curation.core.intervals import Estimate

    for one in found:
        seeds = " and ".join(dict.fromkeys(", ".join(map(str, one["seeds"][side])) for side in ("from", "to")))
        yield f"evaluations on {_held_out(one, one['intervals'], _pairs(one))}; {_settings(one)}; seeds {seeds}"
        means = [
            (called, "", {name: str(Estimate(**value)) for name, value in one[side].items()})
            for called, side in ((before, "from"), (after, "to"))
        ]
        yield from table([*means, (f"{after} - {before}", "", _words(one["difference"]))])
        for called, side in ((before, "from"), (after, "to")):
            yield from _overlap_warning(one["overlap"][side], one["held_out"], f" of {called}")


def _overlap_warning(overlap: Mapping[str, int] | None, held_out: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Yield a warning if models were trained on held-out pictures. Earlier versions recorded no `overlap`."""
    if overlap and any(overlap.values()):
        pool = f" and {overlap['pool']:,} in the pool" if "pool" in overlap else ""
        names = " under names that aren't held out" if held_out["share"] else ""
        yield (f"  WARNING: of the held-out pictures, {overlap['kept']:,} are among the kept samples{of}{pool}{names}, "
               "byte for byte: the figures are too optimistic")  # fmt: skip


def _settings(document: Mapping[str, Any]) -> str:
    training = document["protocol"]["training"]
    return (f"{document['protocol']['model']}, {training['steps']:,} updates of {training['batch']:,} pairs, "
            f"lr {training['lr']:g}")  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table: labels, samples, and a column for each metric."""
    names = [name for name in TITLES if any(name in cells for _, _, cells in rows)]
    widths = {name: max(len(TITLES[name]), *(len(cells.get(name, "")) for _, _, cells in rows)) for name in names}
    label, samples = (max(len(row[place]) for row in rows) for place in (0, 1))
    head = [("", "samples" if samples else "", TITLES)]
    for title, count, cells in [*head, *rows]:
        columns = "".join(f"   {cells.get(name, ''):<{widths[name]}}" for name in names)
        yield f"  {title:<{label}} {count:>{max(samples, 7) if samples else 0}}{columns}".rstrip()


def _words(found: Mapping[str, Any]) -> dict[str, str]:
    """Return differences as text by metric, marked where the seeds are unpaired."""
    from curation.core.intervals import Difference

    cells = {}
    for name, value in found.items():
        one = Difference(value["mean"], value["half"], value["paired"])
        cells[name] = f"{one} {one.word}{'' if one.paired else ' (unpaired)'}"
    return cells


def _held_out(document: Mapping[str, Any], intervals: Mapping[str, Any], pairs: int) -> str:
    """Describe the held-out samples and the intervals."""
    held_out = document["held_out"]
    share = f", {held_out['share'] * 100:g} % of the names" if held_out["share"] else ""
    samples = f"{held_out['samples']:,} samples"
    if held_out.get("candidates", held_out["samples"]) < held_out["samples"]:  # older documents have no candidates
        samples += f", recall among {held_out['candidates']:,} of different names and captions"
    about = f"± are 95 % intervals over seeds{_correction(intervals, pairs)}"
    return f"{held_out['url']}{share} ({samples}; {about})"


def _correction(intervals: Mapping[str, Any], pairs: int) -> str:
    """Describe the correction of the intervals: the number of differences, and the width in standard errors."""
    from curation.core.intervals import student

    count = intervals["comparisons"]
    if not count or pairs < 2:
        return ""
    width = f"{student(pairs - 1, count):.1f} standard errors with {pairs} seeds"
    return f"; those of all {count} differences hold together (Bonferroni: {width})" if count > 1 else f"; {width}"


def _pairs(compared: Mapping[str, Any]) -> int:
    """Count the seeds with a model of both snapshots; 0 where the seeds are unpaired."""
    paired = all(one["paired"] for one in compared["difference"].values())
    return len(compared["seeds"]["to"]) if paired else 0
