"""`curate diagnose report`: failures, their types, the samples behind them and what repairs them, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.commands.diagnose.arguments import failures_option
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExample:\n"
    "  curate diagnose report trace types repaired erased --failures failures.parquet --out report.html"
)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True)
@failures_option
@click.option("--out", required=True, metavar="FILE", type=click.Path(dir_okay=False), help="The HTML file.")
@json_option
def report(folders: tuple[str, ...], failures_file: str, out: str, as_json: bool) -> None:
    """Write one HTML page of what a diagnosis found, and of what it did not show.

    DIR are the --out folders of `curate diagnose trace`, `types`, `repair` and `erase` of one model, in any order.
    Reads their documents, and a picture for each sample that the page shows.
    """
    from curation.core.progress import progress
    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.report import gather
    from curation.shards.images import DecodeLimits
    from jobs.pages.diagnosis_report import TRACED, failure_pictures, page, shown_members, traced_pictures

    given = read_failures(failures_file)
    found = gather(given, folders)
    rows = {row["uid"]: row for row in given.table.to_pylist()}
    trace: Mapping[str, Any] = found.documents.get("trace", {"top": []})
    types: Mapping[str, Any] = found.documents.get("types", {"types": []})
    members = shown_members(_members(folders), [one["type"] for one in types["types"]])
    uids = [uid for some in members.values() for uid in some]
    uids += [uid for sample in trace["top"][:TRACED] for uid in sample["explains"]]
    limits = DecodeLimits()
    with progress("Reading pictures", None):
        pictures = failure_pictures(rows, uids, given.about["root"], limits)
        traced = traced_pictures(trace, limits) if trace["top"] else []
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(page(found, pictures, traced, members), encoding="utf-8")
    if as_json:
        print_json(
            {"out": out, "failures": found.parts, "documents": sorted(found.documents), "not_shown": found.not_shown()}
        )
        return
    click.echo(f"{', '.join(sorted(found.documents))} of {len(rows):,} failures: {out}")
    for line in found.not_shown():
        click.echo(printable(f"  not shown: {line}"))


def _members(folders: Sequence[str]) -> dict[str, list[str]]:
    """Return the uids of each type's failures, from the types.parquet of the folder that has one."""
    import pyarrow.parquet as pq

    found: dict[str, list[str]] = {}
    for path in (Path(folder) / "types.parquet" for folder in folders):
        if path.exists():
            for row in pq.read_table(path, columns=["uid", "type"]).to_pylist():
                found.setdefault(row["type"], []).append(row["uid"])
    found.pop(None, None)  # type: ignore[call-overload]
    return found
