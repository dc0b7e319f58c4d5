"""`curate evaluate`: did the data get better? And how `show` and `diff` tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable_lines
from jobs.commands.proxy import training_of, training_options
from jobs.options import FloatRange, json_option, print_json

if TYPE_CHECKING:
    from jobs.protocol import Protocol

TITLES = {"recall@1": "recall@1", "recall@5": "recall@5", "zero_shot": "zero-shot"}
Row = tuple[str, str, Mapping[str, str]]  # label, samples, text by metric


@click.command(
    epilog="\b\nExamples:\n  curate evaluate demo/curated --against demo/corpus --holdout 0.1\n"
    "  curate evaluate s3://curated/a s3://curated/b@3 --against s3://pool/test --model proxy-s --device cuda --seeds 5"
)
@click.argument("snapshots", metavar="OUT[@N]...", nargs=-1, required=True)
@click.option(
    "--against",
    required=True,
    metavar="URL",
    help="Held-out samples: shards (of a damaged one, what can be read) or a snapshot; 4,000 of them.",
)
@click.option(
    "--holdout",
    default=0.0,
    show_default=True,
    type=FloatRange(0, 0.5),
    help="Judge on this share of names only, and train no model on them: for held-out names of one corpus.",
)
@click.option("--model", default="proxy-ti", show_default=True, help="`curate proxy ls --all` lists them.")
@click.option("--steps", default=400, show_default=True, type=click.IntRange(1), help="Updates of every model.")
@training_options("batch", "lr", "precision")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Models of each kind.")
@click.option("--raw/--no-raw", default=True, show_default=True, help="Also train on all of the source corpus.")
@click.option(
    "--random/--no-random",
    default=True,
    show_default=True,
    help="Also train on random parts of it, of the snapshot's size.",
)
@click.option("--runs", metavar="URL", help="Where models are kept. Default: runs/ below the first snapshot's output.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Models trained at once; 1: in this process, without Ray. Default: what the cluster has room for.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="CPU threads of a model; part of what decides its weights.",
)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--address", help="Ray cluster to run on. Default: RAY_ADDRESS, else a cluster on this machine.")
@json_option
def evaluate(
    snapshots: tuple[str, ...], raw: bool, random: bool, workers: int | None, address: str | None, as_json: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Train the same small CLIP for the same compute on each snapshot, on its source corpus, and on random parts of the
    corpus of the snapshot's size; compare them on held-out samples, and attach the result to the snapshot.

    Models are kept by all that decides them, and none is trained twice: interrupted, the same command goes on.
    """
    from curation.core.progress import progress
    from jobs.protocol import carry_out, conclude, missing, plan

    protocol = _protocol(snapshots[0], **settings)
    others = [arm for arm, wanted in (("raw", raw), ("random", random)) if wanted]
    plans = [plan(url, protocol, others) for url in dict.fromkeys(snapshots)]
    found = {one.identity: one.attached() for one in plans}
    todo = missing([one for one in plans if found[one.identity] is None])
    if todo:
        with progress("Training and judging", len(todo), "models") as tick:
            carry_out(todo, workers, address, tick)
    documents = [found[one.identity] or conclude(one, protocol) for one in plans]
    if as_json:
        print_json({"judged": len(todo), "evaluations": documents})
        return
    click.echo(printable_lines(line for document in documents for line in report(document)))
    done = f"judged {len(todo):,} models, after training those that were not there"
    click.echo(done if todo else "nothing to train: all of these models were there, and judged")


def _protocol(first: str, *, against: str, holdout: float, runs: str | None, seeds: int, device: str, threads: int,
              model: str, **training: Any) -> Protocol:  # fmt: skip
    import curation as cu
    from curation.evaluation.trials import pin
    from curation.models.devices import pick_device
    from curation.storage.urls import absolute_url
    from jobs.protocol import Protocol

    snapshot = cu.open(first)  # raises for a URL that holds none, before anything is listed
    return Protocol(
        held_out=pin(against, holdout), model=model, training=training_of(**training), seeds=seeds, threads=threads,
        runs=absolute_url(runs or snapshot.store.location("runs")),
        device=pick_device("auto").type if device == "auto" else device,
    )  # fmt: skip


def report(document: Mapping[str, Any]) -> Iterator[str]:
    """An evaluation for a person: a table of means, differences with their intervals, and what a model costs."""
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
    yield from _flattered(document["overlap"], document["held_out"])
    yield from (f"  WARNING: {line}" for line in document.get("seen", ()))
    if document.get("weighted"):
        yield "  its own models met each sample as often as it weighs in the manifest"


def changes(found: Sequence[Mapping[str, Any]], before: str, after: str) -> Iterator[str]:
    """Evaluations of two snapshots, called `before` and `after`, side by side, for `curate diff`."""
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
            yield from _flattered(one["overlap"][side], one["held_out"], f" of {called}")


def _flattered(overlap: Mapping[str, int] | None, held_out: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """A warning, where models have been trained on what they are judged by. None: by an earlier version."""
    if overlap and any(overlap.values()):
        pool = f" and {overlap['pool']:,} in the pool" if "pool" in overlap else ""
        names = " under names that aren't held out" if held_out["share"] else ""
        yield (f"  WARNING: of the held-out pictures, {overlap['kept']:,} are among the kept samples{of}{pool}{names}, "
               "byte for byte: figures flatter")  # fmt: skip


def _settings(document: Mapping[str, Any]) -> str:
    training = document["protocol"]["training"]
    return (f"{document['protocol']['model']}, {training['steps']:,} updates of {training['batch']:,} pairs, "
            f"lr {training['lr']:g}")  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Labels, samples and a column a metric, as wide as it takes."""
    names = [name for name in TITLES if any(name in cells for _, _, cells in rows)]
    widths = {name: max(len(TITLES[name]), *(len(cells.get(name, "")) for _, _, cells in rows)) for name in names}
    label, samples = (max(len(row[place]) for row in rows) for place in (0, 1))
    head = [("", "samples" if samples else "", TITLES)]
    for title, count, cells in [*head, *rows]:
        columns = "".join(f"   {cells.get(name, ''):<{widths[name]}}" for name in names)
        yield f"  {title:<{label}} {count:>{max(samples, 7) if samples else 0}}{columns}".rstrip()


def _words(found: Mapping[str, Any]) -> dict[str, str]:
    """Differences with their words. An interval over seeds that are no pairs says so."""
    from curation.core.intervals import Difference

    cells = {}
    for name, value in found.items():
        one = Difference(value["mean"], value["half"], value["paired"])
        cells[name] = f"{one} {one.word}{'' if one.paired else ' (unpaired)'}"
    return cells


def _held_out(document: Mapping[str, Any], intervals: Mapping[str, Any], pairs: int) -> str:
    """What models were judged on, and what the intervals are."""
    held_out = document["held_out"]
    share = f", {held_out['share'] * 100:g} % of the names" if held_out["share"] else ""
    samples = f"{held_out['samples']:,} samples"
    if held_out.get("candidates", held_out["samples"]) < held_out["samples"]:  # older ones don't tell
        samples += f", recall among {held_out['candidates']:,} of different names and captions"
    about = f"± are 95 % intervals over seeds{_together(intervals, pairs)}"
    return f"{held_out['url']}{share} ({samples}; {about})"


def _together(intervals: Mapping[str, Any], pairs: int) -> str:
    """How differences are judged: how many together, and how many standard errors wide that makes an interval."""
    from curation.core.intervals import student

    count = intervals["comparisons"]
    if not count or pairs < 2:
        return ""
    width = f"{student(pairs - 1, count):.1f} standard errors with {pairs} seeds"
    return f"; those of all {count} differences hold together (Bonferroni: {width})" if count > 1 else f"; {width}"


def _pairs(compared: Mapping[str, Any]) -> int:
    """Seeds of which both snapshots have a model; 0 where the seeds are no pairs."""
    paired = all(one["paired"] for one in compared["difference"].values())
    return len(compared["seeds"]["to"]) if paired else 0
