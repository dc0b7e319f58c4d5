"""`curate matches`: samples that a snapshot's filters found in other snapshots, as a list or as pairs of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from jobs.options import dataset_argument, html_option, json_option, print_json

if TYPE_CHECKING:
    from curation.dataset.snapshot import Snapshot


@click.command(
    epilog="\b\nExamples:\n  curate matches s3://curated/objects\n"
    "  curate matches s3://curated/objects --how embedding --limit 200 --html matches.html"
)
@dataset_argument
@click.option(
    "--how", type=click.Choice(["exact", "perceptual", "embedding"]), help="List only matches found in this way."
)
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), metavar="N", help="List at most N matches."
)
@html_option("Write a page with both pictures of each match.")
@json_option
def matches(dataset: str, how: str | None, limit: int, html: str | None, as_json: bool) -> None:
    """Show what `decontaminate` dropped, and which samples it matched.

    Each line pairs a dropped sample with the sample of another snapshot that it matches. The matches closest to the
    threshold come first, because these show whether the threshold is right. Only --html reads the samples' bytes.
    """
    import curation as cu

    snapshot = cu.open(dataset)
    rows, total = find_matches(snapshot, how, limit)
    if html:
        from jobs.pages.matches import page

        Path(html).write_text(page(snapshot, rows, total))
    if as_json:
        print_json({"total": total, "matches": rows})
        return
    for row in rows:
        match = f"{row['filter']}.{row['how']:<10}  {row['value']:>7.4g}"
        click.echo(printable(f"{row['uid']}  {match}  {row['other']}  {row['against']}"))
    click.echo(f"{len(rows):,} of {total:,} matches", err=True)


def find_matches(snapshot: Snapshot, how: str | None, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return up to `limit` matches, least similar first, and the number of all matches found in the way `how`.

    The column `against` names the other snapshot with its number. Raises `UserError` for a snapshot that was compared
    with no other.
    """
    from curation.core.errors import UserError
    from curation.dataset.manifest import check_uids
    from curation.storage.tables import scratch

    item = snapshot.document.get("matches")
    if item is None:
        fix = "add the filter `decontaminate` to its recipe and run it again"
        raise UserError(f"{snapshot.store.url}@{snapshot.number} was compared with no other snapshot", fix=fix)
    table = snapshot.table(item)
    check_uids(table, snapshot.store.location(item["key"]), ("uid", "other"))
    with scratch(what="reading the list of matches") as db:
        db.register("matches", table)
        where = "WHERE $how IS NULL OR how = $how"
        ((total,),) = db.execute(f"SELECT count(*) FROM matches {where}", {"how": how}).fetchall()
        order = "CASE how WHEN 'perceptual' THEN -value WHEN 'embedding' THEN value ELSE 2 END, uid"
        query = f"SELECT * FROM matches {where} ORDER BY how = 'exact', how DESC, {order} LIMIT {limit}"
        rows = db.sql(query, params={"how": how}).to_arrow_table().to_pylist()
    against = {url: _pinned(url, number) for url, number in snapshot.document["against"].items()}
    return [{**row, "against": against[row["against"]]} for row in rows], total


def _pinned(url: str, number: int) -> str:
    """Return the URL with the number of the snapshot that it named when the filter ran."""
    return url if url.endswith(f"@{number}") else f"{url.removesuffix('@latest')}@{number}"
