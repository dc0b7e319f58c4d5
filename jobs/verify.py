"""`curate verify`: recompute a snapshot from raw input and output bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from curation.printable import printable
from jobs.options import json_option

if TYPE_CHECKING:
    from curation.snapshot import Snapshot
    from jobs.pipeline import Pipeline


@click.command(epilog="\b\nExamples:\n  curate verify s3://curated/objects\n  curate verify demo/curated@2")
@click.argument("dataset", metavar="OUT[@N]")
@click.option("--address", help="Ray cluster to run on. Default: RAY_ADDRESS, else a cluster on this machine.")
@json_option
def verify(dataset: str, address: str | None, as_json: bool) -> None:
    """Recompute every count, hash, uid and decision from raw input and output bytes; fail on any difference."""
    import curation as cu
    from actors.cluster import cluster
    from curation.errors import VerifyError

    snapshot = cu.open(dataset)
    with cluster(address):
        problems = list(problems_of(snapshot))
    samples = snapshot.document["samples"]["seen"]
    if as_json:
        result = {"snapshot": snapshot.number, "ok": not problems, "samples": samples, "problems": problems}
        click.echo(json.dumps(result, indent=2))
    else:
        for line in problems:
            click.echo(printable(f"  {line}"), err=True)
    if problems:
        raise VerifyError(
            f"{dataset}: {len(problems)} differences, the first: {problems[0]}",
            fix="restore the damaged object, or run the recipe again into a new output",
        )
    if not as_json:
        shards = snapshot.shards.num_rows
        where = f"{snapshot.store.url}@{snapshot.number}"
        click.echo(f"verified {where}: {samples:,} samples in, {shards:,} shards out, no difference")


def problems_of(snapshot: Snapshot) -> Iterator[str]:
    from actors.cluster import cpus, map_bounded
    from curation.verify import UnitVerifier
    from curation.writing import add_up
    from jobs.pipeline import pipeline_of
    from jobs.progress import progress

    document = snapshot.document
    with pipeline_of(snapshot) as run:
        verifier = UnitVerifier(
            run.out, run.corpus.store(), run.recipe.limits, run.scored, run.columns, run.recipe.caption
        )
        totals: list[Any] = []
        units = snapshot.parts.column("unit").to_pylist()
        with progress("Verifying", document["samples"]["seen"]) as tick:
            for record, problems in map_bounded(verifier.verify, units, width=2 * cpus()):
                totals += record["inputs"]
                yield from problems
                tick(sum(item["seen"] for item in record["inputs"]))
        if add_up(totals) != document["samples"] or len(totals) != document["units"]["total"]:
            yield "the units' counts don't add up to the snapshot's"
        yield from _decisions(snapshot, run, units)
        yield from _indexes(snapshot)


def _decisions(snapshot: Snapshot, run: Pipeline, units: list[str]) -> Iterator[str]:
    """Decide again from the score tables: a write unit's id covers every decision and reason in it."""
    from curation.errors import LedgerError, StoreError

    try:
        planned = run.out.open_plan(snapshot.document["plan"])
        with run.decide(planned, lambda n: None) as decided:
            again = [group.id for group in decided.groups(run.recipe.shards.samples)]
    except (LedgerError, StoreError) as error:
        yield f"the filters can't run again: {error}"
        return
    if again != units:
        yield f"{len(set(units) ^ set(again))} write units differ when the filters run again over the score tables"


def _indexes(snapshot: Snapshot) -> Iterator[str]:
    """The snapshot's own objects, and that no uid occurs twice."""
    from hashlib import sha256

    from curation.errors import LedgerError

    for name in ("shards", "manifest", "urls"):
        item = snapshot.document[name]
        if sha256(snapshot.store.get(item["key"])).hexdigest() != item["sha256"]:
            yield f"{item['key']}: sha256 differs from the snapshot's"
    try:
        repeated = snapshot.manifest.query("SELECT uid FROM manifest GROUP BY uid HAVING count(*) > 1").num_rows
    except LedgerError as error:
        yield f"the manifest can't be read: {error}"
        return
    if repeated:
        yield f"{repeated} uids occur more than once in the manifest"
