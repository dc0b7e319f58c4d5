"""`curate policy`: the choices of a run of online selection, and sample weights made from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json

if TYPE_CHECKING:
    from curation.selection.policy import Policy


@click.group()
def policy() -> None:
    """Show and reuse data policies: what runs of `curate learn` chose.

    The selector `replay: {run: URL}` trains another learner on the same batches.
    """


@policy.command("show", epilog="\b\nExamples:\n  curate policy show demo/learned/learnability")
@click.argument("run")
@json_option
def policy_show(run: str, as_json: bool) -> None:
    """Show a run's data policy: steps, candidates, choices, size."""
    from curation.selection.policy import describe

    found = describe(_policy(run))
    if as_json:
        print_json(found)
        return
    click.echo(f"steps       {found['steps']:,}, {found['scored']:,} of them scored, lag at most {found['lag']}")
    click.echo(f"candidates  {found['candidates']:,} offered, {found['chosen']:,} chosen, of {found['pool']:,} samples")
    click.echo(f"size        {found['bytes']:,} bytes: {found['bytes_per_candidate']:.1f} a candidate")
    click.echo(f"models      {printable(', '.join(found['models'])) or 'none'}")
    times = ", ".join(f"{count} times: {samples:,}" for count, samples in found["times"].items())
    click.echo(f"trained on  {times}")


@policy.command("weights", epilog="\b\nExamples:\n"
                "  curate policy weights demo/learned/learnability --least 2 --out demo/chosen.tsv\n"
                "  curate run demo/recipe.yaml --set weights=demo/chosen.tsv --set scores=demo/curated/scores "
                "--set output=demo/chosen")  # fmt: skip
@click.argument("run")
@click.option(
    "--least",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Leave out samples that were chosen fewer times.",
)
@click.option("--out", required=True, metavar="URL", help="File for the list: a uid, a tab and a number on each line.")
@json_option
def policy_weights(run: str, least: int, out: str, as_json: bool) -> None:
    """Write how often each sample was trained on, as sample weights.

    Add the list to the recipe of the run's snapshot as `weights: URL`. Curating it again creates a snapshot of these
    samples only, with the sample weights in its manifest.
    """
    from curation.core.errors import UserError
    from curation.storage.store import open_object

    counts = _policy(run).counts()
    lines = [f"{uid}\t{count}\n" for uid, count in sorted(counts.items()) if count >= least]
    if not lines:
        text = f"no sample was trained on {least:,} times; the maximum is {max(counts.values(), default=0):,}"
        raise UserError(text, fix="choose a smaller --least")
    store, key = open_object(out)
    store.put(key, "".join(lines).encode())
    found = {"weights": store.location(key), "samples": len(lines), "least": least}
    if as_json:
        print_json(found)
    else:
        click.echo(f"{len(lines):,} samples with their weights: {out}")


def _policy(run: str) -> Policy:
    from curation.selection.policy import Policy
    from curation.storage.store import open_store

    return Policy(open_store(f"{run.rstrip('/')}/policy"))
