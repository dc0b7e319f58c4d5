"""`curate plan` and `curate run`: from a recipe to a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from curation.core.skipped import summary
from jobs.commands.groups import lines, warn
from jobs.engine import Choice, connected, executor_option, named, of_units, on_executor
from jobs.options import json_option, print_json, recipe_argument, set_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from curation.core.executor import Executor
    from curation.curating.pipeline import Pipeline, RunCounts
    from curation.ledger.documents import SnapshotDocument
    from curation.ledger.plans import Plan


@click.command(epilog="\b\nExamples:\n  curate plan recipe.yaml\n  curate plan recipe.yaml --address ray://head:10001")
@recipe_argument
@set_option
@click.option("--address", help="Also compare the software of all nodes of this Ray cluster. Default: RAY_ADDRESS, "
                                "else no cluster.")  # fmt: skip
@json_option
def plan(recipe: str, overrides: tuple[str, ...], address: str | None, as_json: bool) -> None:
    """Show what `curate run` would do, without doing it.

    Counts shards, bytes and what is already done. Writes nothing and runs no model.
    """
    from curation.curating import plan_decision, planning, scoring_passes
    from curation.curating.pipeline import pipeline
    from curation.ledger.unreadable import by_reason
    from curation.recipes.curation_recipe import load_recipe

    with pipeline(load_recipe(recipe, overrides), dry=True) as work:
        planned = planning.make_plan(work, write=False)
        current = planning.current_snapshot(work, planned)
        if current:
            planning.recall_unreadable(work, planned)
        else:
            plan_decision.try_filters(work)
        units = planning.missing_units(work, planned)
        scoring_passes.check_weights(work, planning.lacked_columns(units))
        result = {
            "plan": planned.id,
            "units": planned.units,
            "bytes": planned.bytes,
            "units_to_score": units.num_rows,
            "bytes_to_read": sum(units.column("shard_size").to_pylist()),
            "columns": list(work.recipe.fingerprints),
            "lacking": planning.lacked_columns(units),
            "snapshot": current["snapshot"] if current else None,
            "unreadable": by_reason(work.unreadable),
            "left_out": work.left_out or None,
        }
        _ask_nodes(work, address)
    if as_json:
        print_json(result)
        return
    click.echo(f"plan {planned.id[:12]}: {result['units']:,} shards, {_size(result['bytes'])}")
    done, lacks = result["units"] - result["units_to_score"] - len(work.unreadable), ", ".join(result["lacking"])
    click.echo(f"  scored already  {done:,} shards ({', '.join(result['columns'])})")
    which = f"; they lack {lacks}" if lacks else ""
    click.echo(
        f"  to score        {result['units_to_score']:,} shards, {_size(result['bytes_to_read'])} to read{which}"
    )
    if aside := by_reason(work.unreadable):
        click.echo(f"  set aside       {len(work.unreadable):,} shards that the store refuses ({summary(aside)}): "
                   f"`curate run {recipe} --retry-unreadable` tries them again")  # fmt: skip
    if current and lacks:
        click.echo(f"  snapshot        @{current['snapshot']} is already what this recipe makes, but scores are gone: "
                   f"`curate run {recipe} --check-scores` scores them again")  # fmt: skip
    elif current:
        click.echo(f"  snapshot        @{current['snapshot']} is already what this recipe makes: nothing to do")
    else:
        click.echo("  snapshot        a new one would be written, unless its yield is refused"
                   + ("" if units.num_rows else ": curate what-if says now what it would be"))  # fmt: skip


@click.command(epilog="\b\nExamples:\n  curate run recipe.yaml\n  curate run recipe.yaml --set output=s3://curated/try")
@recipe_argument
@set_option
@click.option("--address", help="Ray cluster to run on. Default: RAY_ADDRESS, else this machine.")
@executor_option
@click.option(
    "--check-scores",
    is_flag=True,
    help="Read every score table of the recipe, and score shards again whose tables are missing or damaged, even if "
    "the snapshot is up to date.",
)
@click.option(
    "--accept-yield",
    is_flag=True,
    help="Create the snapshot even if it keeps no sample or less than half as many as the last one, or if more than "
    "limits.max_quarantined of the samples are quarantined.",
)
@click.option(
    "--retry-unreadable",
    is_flag=True,
    help="Try shards again that the snapshot leaves out because the store refused to return them (on_unreadable).",
)
@json_option
def run(
    recipe: str,
    overrides: tuple[str, ...],
    address: str | None,
    executor: str,
    check_scores: bool,
    accept_yield: bool,
    retry_unreadable: bool,
    as_json: bool,
) -> None:
    """Curate a corpus: plan, score, decide, write, create a snapshot.

    Scores only what has no scores yet. Safe to interrupt, to kill and to repeat: the same command continues where it
    stopped, and does nothing once the snapshot is up to date.
    """
    from curation.curating.pipeline import pipeline
    from curation.recipes.curation_recipe import load_recipe

    chosen: list[Choice] = []
    loaded = load_recipe(recipe, overrides)
    settled = named(executor, address)
    likely: Executor | None = None
    if settled is None or settled.name == "local":
        from curation.core.local_executor import LocalExecutor

        likely = LocalExecutor()
    with pipeline(loaded, executor=likely) as work:
        document = run_steps(
            work,
            address,
            executor,
            chosen,
            check_scores=check_scores,
            accept_yield=accept_yield,
            retry_unreadable=retry_unreadable,
        )
        result = {**work.counts.to_json(), "units": document["units"], "samples": document["samples"]}
        result |= {"groups": document.get("groups", []), "left_out": work.left_out or None}
        result["unknown_edits"] = work.unknown_edits
        result["stale_edits"] = document.get("stale_edits")
        result["added"] = (document.get("added") or {}).get("samples")
        result["executor"] = chosen[0]._asdict() if chosen else None
        result["efficiency"] = work.stages.to_json()
    if as_json:
        print_json(result)
    else:
        _print(work.recipe.output, work.counts, document)
        if line := work.stages.line():
            click.echo(line, err=True)


def run_steps(
    work: Pipeline, address: str | None, executor: str = "auto", chosen: list[Choice] | None = None, **options: bool
) -> SnapshotDocument:
    """`curating.run.run_steps` on the executor that the options name, or that fits. `chosen` receives it.

    options: fields of `RunOptions`.
    """
    from curation.curating.run import RunOptions
    from curation.curating.run import run_steps as steps

    settled = named(executor, address)

    def engine(plan: Plan, units: pa.Table, task: Callable[[Executor], SnapshotDocument]) -> SnapshotDocument:
        from curation.curating import planning, scoring_passes
        from curation.curating.pipeline import worker_modules

        size = sum(units.column("shard_size").to_pylist())
        found = settled or connected() or of_units(units.num_rows, size, work.recipe.compute.num_gpus)
        click.echo(str(found), err=True)
        if chosen is not None:
            chosen.append(found)

        if found.name == "ray":
            scoring_passes.check_weights(work, planning.lacked_columns(units))  # before a cluster is started

        def checked(on: Executor) -> SnapshotDocument:
            if on.name == "ray":
                _warn_of_mixed(work, address)
            if units.num_rows:
                on.warm(worker_modules(work.recipe))
            return task(on)

        return on_executor(found, address, checked)

    return steps(work, engine, RunOptions(**options))


def _ask_nodes(work: Pipeline, address: str | None) -> None:
    """Connect to the cluster, if there is one, only to see whether it is mixed."""
    import os

    if not (address or os.environ.get("RAY_ADDRESS")):
        return  # Ray takes a second to import
    from actors.ray_cluster import ray_cluster

    with ray_cluster(address):
        _warn_of_mixed(work, address)


def _warn_of_mixed(work: Pipeline, address: str | None) -> None:
    """Say in which packages the nodes of a cluster differ; the snapshot will hold the versions of all of them."""
    from actors.ray_cluster import address_of
    from actors.software import mixed, silent, software_of_nodes
    from curation.core.software import software, software_id

    if not address_of(address):
        return  # nodes of this machine run what the driver runs
    found = software_of_nodes()
    nodes = {address: versions for address, versions in found.items() if versions is not None}
    nodes["the driver"] = software()
    work.software |= {software_id(versions): versions for versions in nodes.values()}
    if late := silent(found):
        fix = "their software is unknown: look at them if scores differ between runs"
        click.echo(f"warning: {late}; {fix}", err=True)
    for line in mixed(nodes):
        fix = "scores may differ in their last bits: give all nodes the same image"
        click.echo(f"warning: nodes differ in {line}; {fix}", err=True)


def _print(output: str, work: RunCounts, document: SnapshotDocument) -> None:
    if not work.new_snapshot and work.units_scored:
        click.echo(f"{output}@{work.snapshot} is what this recipe makes; scored {work.units_scored:,} shards again in "
                   f"{work.model_batches:,} model batches, {work.score_puts:,} data puts")  # fmt: skip
    elif not work.new_snapshot:
        click.echo(f"nothing to do: {output}@{work.snapshot} is what this recipe makes (0 data puts, 0 model batches)")
        click.echo(f"  not checked: the objects behind it (curate verify {output}; curate repair {output})", err=True)
    else:
        click.echo(
            f"snapshot {output}@{work.snapshot}: scored {work.units_scored:,} shards in {work.model_batches:,} model "
            f"batches, {work.data_puts + work.score_puts:,} data puts"
        )
    for line in [*counts(document["samples"]), *shard_counts(document["units"])]:
        click.echo(line)
    groups, seen = document.get("groups", []), document["samples"]["seen"]
    if groups:
        click.echo("  the largest groups of duplicates")
    for line in lines(groups, seen, 3):
        click.echo(f"  {line}")
    warn(groups, seen, f"curate groups {output} --html groups.html")


def counts(samples: dict[str, Any]) -> list[str]:
    """The lines of every report: seen, kept, filtered and quarantined by reason, with shares."""
    seen = max(1, samples["seen"])
    lines = [f"  {name:<12} {samples[name]:>10,}   {samples[name] / seen:6.1%}" for name in ("seen", "kept")]
    for outcome in ("filtered", "quarantined"):
        total = sum(samples[outcome].values())
        lines.append(f"  {outcome:<12} {total:>10,}   {total / seen:6.1%}")
        lines += [f"    {printable(reason):<30} {n:>10,}" for reason, n in samples[outcome].items()]
    return lines


def shard_counts(units: Mapping[str, Any]) -> list[str]:
    """Lines about input shards that are quarantined whole: how many, and why. None where there are none."""
    bad = units["quarantined"]
    if not bad:
        return []
    share = f"{bad / units['total']:6.1%} of the shards; samples in them that could not be read are not counted above"
    reasons = units.get("reasons", {})
    return [f"  {'quarantined shards':<18} {bad:>4,}   {share}",
            *(f"    {printable(reason):<30} {n:>10,}" for reason, n in reasons.items())]  # fmt: skip


def _size(n: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} PB"
