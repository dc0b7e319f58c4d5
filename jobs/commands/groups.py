"""`curate groups`: a snapshot's largest groups of duplicates, as a list or as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.options import dataset_argument, html_option, json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate groups s3://curated/objects\n  curate groups demo/curated@2 --html groups.html"
)
@dataset_argument
@html_option("Write a page with pictures: each group's kept sample, and some of those dropped as its duplicates.")
@json_option
def groups(dataset: str, html: str | None, as_json: bool) -> None:
    """Show the largest groups of duplicates that filters found.

    A large group is either a picture that occurs everywhere, such as a placeholder, or a mistake: different pictures
    that the filter takes for one. Each snapshot records the ten largest groups of each filter; only --html reads more.
    """
    import curation as cu

    snapshot = cu.open(dataset)
    found, seen = snapshot.groups, snapshot.document["samples"]["seen"]
    if html:
        from jobs.pages.groups import page

        Path(html).write_text(page(snapshot, found))
    if as_json:
        print_json({"seen": seen, "groups": found})
        return
    click.echo("\n".join(lines(found, seen)) or "no filter dropped a sample as a duplicate of another")


def lines(groups: Sequence[Mapping[str, Any]], seen: int, most: int = 10) -> Iterator[str]:
    """Yield a line for each of the largest groups, at most `most`. `seen`: samples of the corpus."""
    for group in sorted(groups, key=lambda group: -group["samples"])[:most]:
        share = group["samples"] / max(1, seen)
        yield f"  {group['samples']:>10,}   {share:6.1%}   {printable(group['filter'])}: kept only {group['stays']}"


def warn(groups: Sequence[Mapping[str, Any]], seen: int, look: str) -> None:
    """Print to stderr which groups are a large part of the corpus. `look`: the command that shows them."""
    from curation.curating.groups import warnings

    for line in warnings(groups, seen):
        click.echo(printable(f"warning: {line}: {look}"), err=True)
