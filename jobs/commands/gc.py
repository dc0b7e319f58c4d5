"""`curate gc`: sweep data objects that no record names."""

from __future__ import annotations

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate gc s3://curated/objects --dry-run\n  curate gc demo/curated --grace 2h\n"
    "  curate gc s3://curated/scores"
)
@click.argument("dataset", metavar="OUT")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--grace", default="24h", show_default=True, metavar="TIME",
              help="Spare objects younger than this (1h at least): a worker may be about to name them.")  # fmt: skip
@json_option
def gc(dataset: str, dry_run: bool, grace: str, as_json: bool) -> None:
    """Delete data objects that no commit record and no snapshot names: the leavings of killed or beaten workers.

    Every record, snapshot and index is read first. If one of them can't be read, nothing is deleted. Score tables are
    swept in the same way where they lie below OUT; a store of scores that datasets share is swept when it is named
    itself. Records, plans and snapshots are never deleted.
    """
    from curation.curating.garbage import parse_duration, sweep
    from curation.ledger.ledger import Ledger
    from curation.storage.store import open_store

    seconds, urls = parse_duration(grace), _swept_with(dataset)
    swept = sweep([Ledger(open_store(url)) for url in urls], grace=seconds, delete=not dry_run)
    total = sum(item.bytes for item in swept)
    if as_json:
        print_json({"deleted": not dry_run, "bytes": total, "objects": [i.url for i in swept]})
        return
    for item in swept:
        click.echo(f"  {item.bytes:>14,}  {printable(item.url)}")
    click.echo(f"{'would delete' if dry_run else 'deleted'} {len(swept):,} objects, {total:,} bytes")


def _swept_with(url: str) -> list[str]:
    """The ledgers to sweep: of a dataset, with its scores where they are its own; or of shared scores.

    Raises `NoSnapshotError` for a URL that is neither: nothing is deleted by a typing mistake.
    """
    import curation as cu
    from curation.core.errors import NoSnapshotError
    from curation.curating.garbage import is_ledger
    from curation.storage.store import open_store

    try:
        snapshot = cu.open(url)
    except NoSnapshotError:
        if is_ledger(store := open_store(url)):
            return [store.url]
        raise
    scores = snapshot.document.scores_at(snapshot.store).url
    return [snapshot.store.url, *([scores] if scores.startswith(f"{snapshot.store.url.rstrip('/')}/") else [])]
