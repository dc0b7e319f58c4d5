"""`curate learn`: train a learner by a recipe of online selection, or uniformly on a snapshot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable_lines
from jobs.commands.proxy import training_options
from jobs.engine import Choice, executor_option, named
from jobs.options import json_option, print_json

if TYPE_CHECKING:
    from curation.recipes.learning_recipe import LearnRecipe

_EXPECTED = {"no_class"}  # reasons to skip samples of a snapshot that are no damage


@click.command(epilog="\b\nExamples:\n  curate learn demo/curated --out demo/learned\n"
               "  curate learn learn.yaml\n"
               "  curate learn learn.yaml --set selection.filtering_ratio=0.8 --set output=demo/learned-08\n"
               "  curate learn s3://curated/everyday@7 --model ViT-B-32 --device cuda --precision bf16 "
               "--eval s3://pool/test --out s3://runs/7")  # fmt: skip
@click.argument("what", metavar="RECIPE.yaml | SNAPSHOT[@N]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of the recipe (repeatable)."
)
@click.option("--model", default="proxy-mu", show_default=True, help="`curate proxy ls --all` lists them.")
@click.option("--out", metavar="URL", help="Directory for weights, metrics.jsonl and summary.json.")
@click.option(
    "--eval", "evaluation", metavar="URL", help="Corpus whose held-out part is evaluated on. Default: SNAPSHOT."
)
@click.option("--steps", default=500, show_default=True, type=click.IntRange(1), help="Updates.")
@training_options()
@executor_option
@click.option("--address", help="Ray cluster to run a recipe on. Default: RAY_ADDRESS.")
@json_option
@click.pass_context
def learn(
    context: click.Context, /, what: str, overrides: tuple[str, ...], executor: str, address: str | None, as_json: bool,
    **arguments: Any,
) -> None:  # fmt: skip
    """Train a learner by a recipe, or uniformly on a snapshot.

    A recipe's selector chooses the samples.
    A recipe's run can be stopped at any time; the same command continues it from the last checkpoint. Samples are held
    out by the hash of their names: a proxy and a learner with the same holdout have the same held-out samples, and two
    snapshots of one corpus can be compared on the same names with --eval CORPUS.
    """
    given = [name for name in arguments if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if what.endswith((".yaml", ".yml")):
        if given:
            raise click.UsageError(f"--{given[0]} is for snapshots; --set changes a field of the recipe")
        _by_recipe(what, overrides, executor, address, as_json)
        return
    if overrides:
        raise click.UsageError("--set is for recipes; a snapshot's settings have options of their own")
    if executor == "ray" or address:
        raise click.UsageError("--executor ray and --address are for recipes; here, one process trains")
    if not arguments["out"]:
        raise click.UsageError("--out is missing: name the folder of weights and metrics")
    _uniform(what, as_json, **arguments)


def _uniform(snapshot: str, as_json: bool, **arguments: Any) -> None:
    from jobs.commands.proxy import training_job

    job = training_job(data=snapshot, **arguments)
    from curation.evaluation.card import report
    from curation.evaluation.training import run
    from curation.storage.store import open_store

    card = run(job)
    store = open_store(job.out)
    if not card["reused"]:
        store.put("summary.json", json.dumps(card, indent=2).encode())
    if as_json:
        print_json(card)
    else:
        click.echo(f"{report(card)}\nmetrics  {store.location('metrics.jsonl')}")


def _by_recipe(path: str, overrides: tuple[str, ...], executor: str, address: str | None, as_json: bool) -> None:
    from curation.recipes.learning_recipe import load_learn_recipe

    recipe = load_learn_recipe(path, overrides)
    choice = choose_executor(recipe, executor, address)
    if not as_json:
        click.echo(str(choice), err=True)
    from curation.learning.summaries import curve_of, summary_of
    from jobs.pages.curves import curves

    compared = summary_of(recipe.compare, recipe) if recipe.compare else None  # a missing run costs no training
    found = _train(recipe, choice, address)
    runs = {"this run": curve_of(found)}
    if compared is not None:
        runs[f"compared: {recipe.compare}"] = curve_of(compared)
    picture = curves(runs, recipe)
    if as_json:
        print_json({**found, "picture": picture})
        return
    click.echo(printable_lines(report(found, recipe.learner.model).splitlines()))
    if picture:
        click.echo(f"curves   {picture}")


def choose_executor(recipe: LearnRecipe, executor: str, address: str | None) -> Choice:
    """Choose where a recipe's run is trained: here, unless its section `compute` or an option asks for Ray."""
    if executor == "auto" and not address and recipe.compute is None:
        return Choice("local", "the recipe has no section `compute`")
    return named(executor, address) or Choice("ray", "the recipe has a section `compute`")


def _train(recipe: LearnRecipe, choice: Choice, address: str | None) -> dict[str, Any]:
    from curation.core.errors import UserError
    from curation.core.progress import Note, progress

    note = Note()

    def shown(label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return progress(label, total, "steps" if label.startswith("Training") else "samples", note)

    if choice.name == "local":
        from curation.learning.learn import learn as learn_here

        return learn_here(recipe, progress=shown, note=note.say)
    if recipe.device.startswith("cuda"):
        fix = "leave device out; compute: {learner_gpus: 1, actor_gpus: 0.5}"
        raise UserError(f"device {recipe.device} is for one process; on Ray, `compute` assigns GPUs", fix=fix)
    from actors.learning import learn as learn_on_a_cluster

    return learn_on_a_cluster(recipe, shown, note.say, address)


def report(found: dict[str, Any], model: str) -> str:
    """Format a summary for a person."""
    from curation.selection.flops import unit_of

    lines = [f"{model}: {found['steps']:,} steps in {found['seconds']:.0f} s, quality {found['quality']:.3f}"]
    if found["reused"]:
        lines[0] += "  (already trained: nothing done)"
    parts, totals = found["flops"]["parts"], found["flops"]["totals"]
    unit, size = unit_of(totals["full"])
    each = ", ".join(f"{name} {value / size:.2f}" for name, value in parts.items() if value)
    lines.append(f"compute  {totals['full'] / size:.2f} {unit} ({each})")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in found["device_seconds"].items())
    lines.append(f"device   {found['device']}: {seconds}")
    lines += _overhead_lines(found.get("overhead"))
    lines += _payoff_lines(found)
    lines += _notices(found)
    return "\n".join([*lines, f"weights  {found['weights']}", f"sha256   {found['sha256']}"])


def _overhead_lines(overhead: dict[str, Any] | None) -> list[str]:
    """Report how close the loop came to the bare update's rate, and the cost of selection beside its prediction.

    overhead: of the summary; None in summaries of earlier versions and of runs that were only finished.
    """
    if overhead is None:
        return []
    seconds, names = overhead["seconds"], {"waiting": "waiting for choices", "scoring": "scoring",
                                           "small_models": "updates of small models"}  # fmt: skip
    parts = [f"{name} {seconds[key]:.1f} s" for key, name in names.items() if seconds[key]]
    parts.append(f"other {max(0.0, seconds['loop'] - seconds['updating'] - sum(map(seconds.get, names))):.1f} s")
    lines = [
        f"rate     {overhead['rate']:.0%} of the bare update's: {overhead['updates']:,} updates took "
        f"{seconds['updating']:.1f} s, the loop {seconds['loop']:.1f} s without evaluations and checkpoints "
        f"({', '.join(parts)})"
    ]
    if (selection := overhead["selection"]) is not None:
        difference = selection["difference"]
        lines.append(
            f"overhead selection took {selection['measured']:.0%} of the device time of the learner's updates; the "
            f"ledger predicts {selection['predicted']:.0%} from FLOPs: {abs(difference) * 100:.0f} points "
            f"{'more' if difference >= 0 else 'less'} than predicted"
        )
    return lines


def _notices(found: dict[str, Any]) -> list[str]:
    """List notices about the data: unchecked leaks, skipped samples, super-batches that exceed the pool."""
    lines = [f"WARNING  {line}" for line in found.get("unchecked", ())]
    lines += [f"skipped  {count:,}: {reason}" for reason, count in found["skipped"].items()]
    snapshots = all(re.search(r"@\d+\Z", url) for url in found["data"])  # otherwise the corpus itself may be damaged
    if snapshots and found["skipped"].keys() - _EXPECTED:
        lines += [
            f"         a snapshot's samples should all be usable: run `curate verify {url}`" for url in found["data"]
        ]
    if found.get("cut"):
        wanted, pool = found["cut"]["wanted"], found["cut"]["pool"]
        lines.append(f"a super-batch of {wanted:,} exceeds the pool: all {pool:,} samples were candidates each time")
    return lines


def _payoff_lines(found: dict[str, Any]) -> list[str]:
    """Report whether selection was cheaper than the run that it is compared with."""
    from curation.learning.comparison import verdict

    against, unknown = found["against"], "; ".join(found["uncounted"])
    if against is None:
        return [f"uncounted  {unknown}"] if unknown else []
    if against["target"] is None:
        return [f"{against['run']} was judged on other held-out samples, so the two can't be compared"]
    positive = against["compute_positive"]
    paid = verdict(positive) + (f" ({unknown})" if positive is None else "")
    if against["updates"] is None:
        lines = [f"never reaches quality {against['target']:.3f} of {against['run']}; compute_positive: {paid}"]
    else:
        saved = ", ".join(f"{name} {value:+.0%}" for name, value in against["compute_saved"].items())
        lines = [
            f"reaches quality {against['target']:.3f} of {against['run']} after {against['updates']:,} updates: "
            f"{against['updates_saved']:+.0%} updates saved; compute saved by accounting: {saved}; "
            f"compute_positive: {paid}"
        ]
    clocks = (f"{name} {against[key]['this']:.0f} s against {against[key]['compared']:.0f} s"
              for name, key in (("by the clock", "seconds"), ("on devices", "device_seconds")))  # fmt: skip
    lines.append(f"the whole runs: {', '.join(clocks)}")
    if against["differs"]:
        lines.append(f"that run differs from this one in: {', '.join(against['differs'])}")
    return lines
