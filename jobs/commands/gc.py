"""`curate gc`: delete data objects that no record names."""

from __future__ import annotations

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate gc s3://curated/objects --dry-run\n  curate gc demo/curated --grace 2h\n"
    "  curate gc s3://curated/scores"
)
@click.argument("dataset", metavar="OUT")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing.")
@click.option("--grace", default="24h", show_default=True, metavar="TIME",
              help="Keep objects younger than this (m, h, d; 1h at least).")  # fmt: skip
@json_option
def gc(dataset: str, dry_run: bool, grace: str, as_json: bool) -> None:
    """Delete data objects that no record or snapshot names.

    Workers that were killed, or that another worker overtook, leave such objects behind. The command reads every
    record, snapshot and index first, and deletes nothing if one of them can't be read. It also deletes unrecorded score
    tables below OUT; name a shared store of scores itself to clean it up. Records, plans and snapshots are never
    deleted.
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
    """Return the URLs of the ledgers to sweep: a dataset and the scores below it, or a shared store of scores.

    Raises `NoSnapshotError` for a URL that is neither, so that a mistyped one deletes nothing.
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
