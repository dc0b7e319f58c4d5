"""`curate show`, `status`, `diff` and `quarantine ls`: inspect a dataset without writing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from curation.core import skipped
from curation.core.printable import printable, printable_lines
from jobs.commands.groups import lines as group_lines
from jobs.commands.run import counts, shard_counts
from jobs.options import dataset_argument, json_option, print_json, recipe_argument, set_option

if TYPE_CHECKING:
    from curation.dataset.snapshot import Snapshot


@click.command(
    epilog="\b\nExamples:\n  curate show s3://curated/objects\n  curate show --json demo/curated@2 | jq .samples"
)
@dataset_argument
@json_option
@click.option("--urls", is_flag=True, help="Print only the URLs of the snapshot's shards, one per line.")
def show(dataset: str, as_json: bool, urls: bool) -> None:
    """Show a snapshot: counts by reason, fingerprints, evaluations."""
    import curation as cu
    from curation.curating.added_samples import added_line
    from curation.curating.stale_edits import stale_line
    from curation.dataset.summary import summary
    from jobs.commands.evaluate import report

    snapshot = cu.open(dataset)
    if urls:
        click.echo(printable_lines(snapshot.urls))
        return
    document = summary(snapshot)
    if as_json:
        print_json(document)
        return
    units, samples = document["units"], document["samples"]
    parent = f", parent @{document['parent']}" if document["parent"] else ""
    click.echo(f"{snapshot.store.url}@{document['snapshot']}{parent}, recipe {document['recipe_sha256'][:12]}")
    click.echo(f"  shards in    {units['total']:>10,}   ({units['quarantined']:,} quarantined)")
    click.echo(
        f"  shards out   {len(document['shards']):>10,}   ({sum(s['bytes'] for s in document['shards']):,} bytes)"
    )
    click.echo("\n".join(_which_shards(snapshot)))
    for line in [*counts(samples), *shard_counts(units)]:
        click.echo(line)
    if added := document.get("added"):
        click.echo(printable(f"  {added_line(added)}"))
    if stale := document.get("stale_edits"):
        click.echo(printable(f"  {stale_line(stale)}"))
    if snapshot.groups:
        click.echo("  the largest groups of duplicates (curate groups shows them)")
    for line in group_lines(snapshot.groups, samples["seen"], 5):
        click.echo(f"  {line}")
    for name, fingerprint in document["fingerprints"].items():
        click.echo(f"  fingerprint  {printable(fingerprint[:12])}  {printable(name)}")
    for evaluation in document["evaluations"]:
        click.echo(printable_lines(report(evaluation)))


def _which_shards(snapshot: Snapshot) -> list[str]:
    """Explain how to find a snapshot's shards, because all snapshots of a dataset share one folder.

    Earlier versions wrote no list of URLs.
    """
    from curation.ledger.snapshot_keys import urls_key

    count, key = snapshot.shards.num_rows, urls_key(snapshot.number)
    shards = "one shard" if count == 1 else f"{count:,} shards"
    listed = f" or {key} (each line is a key below the root)" if snapshot.store.exists(key) else ""
    return [
        f"    the snapshot consists of {shards}; data/ also contains those of other snapshots: never glob data/*.tar,",
        f"    but read the list that `curate show --urls` prints{listed}",
    ]


@click.command(epilog="\b\nExample:\n  curate status recipe.yaml")
@recipe_argument
@set_option
@json_option
def status(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the progress of a recipe: scored shards, latest snapshot.

    Safe to use while `curate run` is working.
    """
    from curation.curating import planning
    from curation.curating.pipeline import pipeline
    from curation.dataset.snapshot import Snapshot
    from curation.dataset.summary import summary
    from curation.ledger.unreadable import by_reason
    from curation.recipes.curation_recipe import load_recipe

    with pipeline(load_recipe(recipe, overrides), dry=True) as work:
        planned = planning.make_plan(work, write=False)
        current = planning.current_snapshot(work, planned) is not None
        if current:
            planning.recall_unreadable(work, planned)
        missing = planning.missing_units(work, planned).num_rows
        latest = work.out.latest()
        document = summary(Snapshot(work.out.store, work.out.snapshot(latest))) if latest else None
        aside = by_reason(work.unreadable)
    result = {
        "units": planned.units,
        "scored": planned.units - missing - sum(aside.values()),
        "unreadable": aside,
        "snapshot": latest or None,
        "up_to_date": current,
        "samples": document["samples"] if document else None,
    }
    if as_json:
        print_json(result)
        return
    click.echo(f"scored    {result['scored']:,} of {planned.units:,} shards")
    if aside:
        refused = f"{sum(aside.values()):,} shards that the store refuses to return ({skipped.summary(aside)})"
        click.echo(f"set aside {refused}; `curate run {recipe} --retry-unreadable` tries them again")
    state = "up to date" if current else "from an earlier plan or recipe"
    if current and missing:
        state += f"; `curate run {recipe} --check-scores` scores {missing:,} shards whose score tables are missing"
    click.echo(f"snapshot  {f'@{latest}, {state}' if latest else 'none yet'}")


@click.command(epilog="\b\nExample:\n  curate diff demo/curated@1 demo/curated@2")
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@json_option
def diff(left: str, right: str, as_json: bool) -> None:
    """Compare two snapshots.

    Counts samples that entered or left, by reason, and lists changes of input shards, recipe and evaluations.
    """
    import curation as cu
    from curation.dataset import evaluations
    from jobs.commands.evaluate import changes

    a, b = cu.open(left), cu.open(right)
    attached = [evaluations.attached(snapshot) for snapshot in (a, b)]
    compared, apart = evaluations.compared(*attached), evaluations.protocol_differences(*attached)
    result = {**cu.diff(a, b), "evaluations": compared, "evaluations_differ_in": apart}
    if as_json:
        print_json(result)
        return
    roots = ("", "") if a.store.url == b.store.url else (a.store.url, b.store.url)
    before, after = (f"{root}@{snapshot.number}" for root, snapshot in zip(roots, (a, b), strict=True))
    click.echo(f"{before} -> {after}: {result['entered']:,} entered, {result['left']:,} left, "
               f"{result['kept_in_both']:,} kept in both")  # fmt: skip
    for change in result["changes"]:
        click.echo(f"  {change['samples']:>10,}  {printable(change['was'])} -> {printable(change['is'])}")
    shards = result["shards"]
    for name in ("added", "changed", "removed", "unreadable", "readable"):
        for key in shards[name][:20]:
            click.echo(f"  input {name:<10} {printable(key)}")
        if len(shards[name]) > 20:
            click.echo(f"  ... and {len(shards[name]) - 20:,} more input shards {name}")
    for line in result["recipe"]:
        click.echo(printable(f"  recipe  {line}"))
    for line in changes(compared, before, after):
        click.echo(printable(f"  {line}"))
    if apart:
        click.echo(f"  the evaluations of both can't be compared, because they differ in {printable(', '.join(apart))}")


@click.group()
def quarantine() -> None:
    """List samples and shards that could not be used.

    They are unreadable or malformed, or have a score that is not a number.
    """


@quarantine.command("ls", epilog="\b\nExample:\n  curate quarantine ls demo/curated --reason image_truncated")
@dataset_argument
@click.option("--reason", help="List only this reason.")
@click.option("--limit", default=100, show_default=True, metavar="N", help="List at most N.")
@json_option
def quarantine_ls(dataset: str, reason: str | None, limit: int, as_json: bool) -> None:
    """List quarantined shards and samples with reasons and byte ranges.

    Whole shards come first. They have no uid, because none of their samples could be read.
    """
    from itertools import islice

    import curation as cu
    from curation.dataset.quarantined import whole_shards

    snapshot = cu.open(dataset)
    rows = list(islice(whole_shards(snapshot, reason), limit))
    shards = len(rows)
    rows += snapshot.manifest.quarantined(reason, limit - shards) if shards < limit else []
    if as_json:
        print_json(rows)
        return
    total = sum(snapshot.document["samples"]["quarantined"].values())
    for row in rows:
        where = f"{row['source_key']}[{row['source_offset']}:+{row['source_length']}]"
        name = row["uid"] or "(a whole shard)"
        line = f"{name:<32}  {row['reason']:<22} {where}  {row['key'] or ''}  {row['detail'] or ''}"
        click.echo(printable(line.rstrip()))
    units = snapshot.document.units
    text = f"{len(rows) - shards:,} of {total:,} quarantined samples"
    if units.quarantined:
        text += f"; {units.quarantined:,} of {units.total:,} shards are quarantined whole"
        text += f", of which the {shards:,} listed have no readable sample" if shards else ""
    click.echo(text, err=True)
