"""`curate learn`: train on curated data, by a recipe of online selection or uniformly, and say how good it got."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from curation.core.printable import printable_lines
from jobs.commands.proxy import training_options
from jobs.options import json_option, print_json

_EXPECTED = {"no_class"}  # reasons why samples of a snapshot are skipped


@click.command(epilog="\b\nExamples:\n  curate learn demo/curated --out demo/learned\n"
               "  curate learn learn.yaml\n"
               "  curate learn learn.yaml --set selection.filtering_ratio=0.8 --set output=demo/learned-08\n"
               "  curate learn s3://curated/everyday@7 --model ViT-B-32 --device cuda --precision bf16 "
               "--eval s3://pool/test --out s3://runs/7")  # fmt: skip
@click.argument("what", metavar="RECIPE.yaml | SNAPSHOT[@N]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a field of the recipe. Repeatable."
)
@click.option("--model", default="proxy-mu", show_default=True, help="`curate proxy ls --all` lists them.")
@click.option("--out", metavar="URL", help="Directory for weights, metrics.jsonl and summary.json.")
@click.option("--eval", "evaluation", metavar="URL", help="Evaluate on the held-out part of this corpus instead.")
@click.option("--steps", default=500, show_default=True, type=click.IntRange(1), help="Updates.")
@training_options()
@json_option
@click.pass_context
def learn(context: click.Context, /, what: str, overrides: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Train a learner: by a recipe, which says how samples are chosen, or on a snapshot with uniform sampling.

    A recipe's run can be stopped at any time; the same command goes on from its last checkpoint. The held-out split is
    by the hash of a sample's name, so that what a proxy trained with the same holdout has not seen, the learner doesn't
    see either, and two snapshots of one corpus are compared on the same names with --eval CORPUS.
    """
    given = [name for name in arguments if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if what.endswith((".yaml", ".yml")):
        if given:
            raise click.UsageError(f"--{given[0]} is for snapshots; a recipe says it itself (--set changes a field)")
        _by_recipe(what, overrides, as_json)
        return
    if overrides:
        raise click.UsageError("--set is for recipes; a snapshot's options have names of their own")
    if not arguments["out"]:
        raise click.UsageError("--out is missing: where to put the weights and metrics")
    _uniform(what, as_json, **arguments)


def _uniform(snapshot: str, as_json: bool, **arguments: Any) -> None:
    from jobs.commands.proxy import training_job

    job = training_job(data=snapshot, **arguments)
    from curation.evaluation.training import report, run
    from curation.storage.store import open_store

    card = run(job)
    store = open_store(job.out)
    if not card["reused"]:
        store.put("summary.json", json.dumps(card, indent=2).encode())
    if as_json:
        print_json(card)
    else:
        click.echo(f"{report(card)}\nmetrics  {store.location('metrics.jsonl')}")


def _by_recipe(path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    from curation.recipes.learning_recipe import load_learn_recipe

    recipe = load_learn_recipe(path, overrides)
    from curation.core.progress import Note, progress
    from curation.evaluation.training import use_threads
    from curation.learning import learn as learn_here
    from curation.learning.results import curve_of, summary_of
    from curation.models.devices import pick_device
    from jobs.pages.curves import curves

    compared = summary_of(recipe.compare, recipe) if recipe.compare else None  # a missing run costs no training
    note = Note()

    def shown(label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return progress(label, total, _unit(label), note)

    if recipe.compute is None:
        use_threads(recipe.threads)
        found = learn_here(recipe, pick_device(recipe.device), shown, note.say)
    else:
        from actors.learning import learn as learn_on_a_cluster

        found = learn_on_a_cluster(recipe, shown, note.say)
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


def _unit(label: str) -> str:
    return "steps" if label.startswith("Training") else "samples"


def report(found: dict[str, Any], model: str) -> str:
    """The summary for a person."""
    from curation.selection.flops import unit_of

    lines = [f"{model}: {found['steps']:,} steps in {found['seconds']:.0f} s, quality {found['quality']:.3f}"]
    if found["reused"]:
        lines[0] += "  (already trained: nothing done)"
    parts, totals = found["flops"]["parts"], found["flops"]["totals"]
    unit, size = unit_of(totals["full"])
    told = ", ".join(f"{name} {value / size:.2f}" for name, value in parts.items() if value)
    lines.append(f"compute  {totals['full'] / size:.2f} {unit} ({told})")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in found["device_seconds"].items())
    lines.append(f"device   {found['device']}: {seconds}")
    lines += _paid(found)
    lines += _noticed(found)
    return "\n".join([*lines, f"weights  {found['weights']}", f"sha256   {found['sha256']}"])


def _noticed(found: dict[str, Any]) -> list[str]:
    """What was not as the recipe or a snapshot says."""
    lines = [f"WARNING  {line}" for line in found.get("unchecked", ())]
    lines += [f"skipped  {count:,}: {reason}" for reason, count in found["skipped"].items()]
    snapshots = all(re.search(r"@\d+\Z", url) for url in found["data"])  # beside a corpus, nobody knows whose they are
    if snapshots and found["skipped"].keys() - _EXPECTED:
        lines += [f"         what a snapshot keeps can be used: see `curate verify {url}`" for url in found["data"]]
    if found.get("cut"):
        wanted, pool = found["cut"]["wanted"], found["cut"]["pool"]
        lines.append(
            f"a super-batch of {wanted:,} is more than there is: all {pool:,} samples were candidates each time"
        )
    return lines


def _paid(found: dict[str, Any]) -> list[str]:
    """Whether selection was cheaper than the run that it is compared with."""
    from curation.learning.results import verdict

    against, unknown = found["against"], "; ".join(found["uncounted"])
    if against is None:
        return [f"uncounted  {unknown}"] if unknown else []
    if against["target"] is None:
        return [f"{against['run']} was judged on other held-out samples: nothing that it was can be compared"]
    positive = against["compute_positive"]
    paid = verdict(positive) + (f" ({unknown})" if positive is None else "")
    if against["updates"] is None:
        lines = [f"never arrives at quality {against['target']:.3f} of {against['run']}; compute_positive: {paid}"]
    else:
        saved = ", ".join(f"{name} {value:+.0%}" for name, value in against["compute_saved"].items())
        lines = [
            f"arrives at quality {against['target']:.3f} of {against['run']} after {against['updates']:,} updates: "
            f"{against['updates_saved']:+.0%} updates saved; compute saved by accounting: {saved}; "
            f"compute_positive: {paid}"
        ]
    clocks = (f"{name} {against[key]['this']:.0f} s against {against[key]['compared']:.0f} s"
              for name, key in (("by the clock", "seconds"), ("on devices", "device_seconds")))  # fmt: skip
    lines.append(f"the whole runs: {', '.join(clocks)}")
    if against["differs"]:
        lines.append(f"that run differs from this one in: {', '.join(against['differs'])}")
    return lines
