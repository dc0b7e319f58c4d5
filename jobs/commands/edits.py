"""`curate edits`: edit lists as they are, merged, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json, set_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from curation.ledger.edit_merging import Named

CONTRADICTING = 2  # exit code: two lists contradict each other
_limit_option = click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(0), metavar="N", help="List at most N rows."
)


@click.group(
    epilog="\b\nExamples:\n  curate edits show recipe.yaml\n"
    "  curate edits merge a.parquet b.parquet --out both.parquet\n  curate edits diff a.parquet b.parquet"
)
def edits() -> None:
    """Show, merge and compare edit lists.

    An edit list is a Parquet table that says what to do with single samples: keep, drop, weigh, or replace a caption or
    another json field. A recipe names such lists under `edits:`.
    """


@edits.command(epilog="\b\nExamples:\n  curate edits show recipe.yaml --json\n  curate edits show s3://lists/a.parquet")
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE|LIST...")
@set_option
@_limit_option
@json_option
@click.pass_context
def show(
    context: click.Context, sources: tuple[str, ...], overrides: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Show the merged edits of a recipe (a .yaml file), or of edit lists.

    Counts the edits by verb and field, lists contradictions and, where the recipe's output has a snapshot, counts the
    uids that no sample of its corpus has. Writes nothing. Exit code 2: two lists contradict each other.
    """
    from curation.curating.edit_report import report, report_of_recipe
    from curation.recipes.curation_recipe import load_recipe

    if sources[0].endswith((".yaml", ".yml")):
        if len(sources) > 1:
            raise click.UsageError("give one recipe, or edit lists")
        found = report_of_recipe(load_recipe(sources[0], overrides), limit)
    else:
        if overrides:
            raise click.UsageError("--set applies to a recipe, and edit lists have none")
        found = report(_read(sources), limit)
    answer = found.to_json(limit)
    if as_json:
        print_json(answer)
    else:
        _print_report(answer)
    if answer["contradicting"] and not answer["resolved"]:
        context.exit(CONTRADICTING)


@edits.command(epilog="\b\nExamples:\n  curate edits merge a.parquet b.parquet --out both.parquet --last-wins")
@click.argument("lists", nargs=-1, required=True, metavar="LIST...")
@click.option("--out", required=True, metavar="URL", help="Where to write the merged list.")
@click.option("--last-wins", is_flag=True, help="Of two contradicting edits, take the one in the later list.")
@json_option
def merge(lists: tuple[str, ...], out: str, last_wins: bool, as_json: bool) -> None:
    """Merge edit lists into one.

    Lists that contradict each other are an error that names the uid and both lists, unless the last list wins.
    """
    from curation.ledger.edit_lists import write_edit_list
    from curation.ledger.edit_merging import counts
    from curation.ledger.edit_merging import merge as merge_lists

    written = write_edit_list(out, merge_lists(_read(lists), last_wins=last_wins))
    found = counts(written.table)
    if as_json:
        print_json({"edits": written.table.num_rows, "counts": found, "sha256": written.sha256})
        return
    click.echo(printable(f"wrote {written.table.num_rows:,} edits to {out}"))
    _print_counts(found)


@edits.command(epilog="\b\nExamples:\n  curate edits diff before.parquet after.parquet")
@click.argument("left", metavar="LIST")
@click.argument("right", metavar="LIST")
@_limit_option
@json_option
def diff(left: str, right: str, limit: int, as_json: bool) -> None:
    """Show what the second edit list adds, removes or changes.

    Only what an edit asks for is compared, and not who made it.
    """
    from curation.ledger.edit_lists import read_edit_list
    from curation.ledger.edit_merging import diff as compare

    found = compare(read_edit_list(left).table, read_edit_list(right).table)
    changes = found.column("change").value_counts().to_pylist()
    totals = {"added": 0, "removed": 0, "changed": 0} | {item["values"]: item["counts"] for item in changes}
    rows = found.slice(0, limit).to_pylist()
    if as_json:
        print_json({**totals, "rows": rows})
        return
    click.echo(", ".join(f"{count:,} {name}" for name, count in totals.items()))
    for row in rows:
        before, after = row["before"] or "-", row["after"] or "-"
        click.echo(printable(f"  {row['uid']}  {row['slot']:<16}  {before} -> {after}"))


def _read(urls: Sequence[str]) -> list[Named]:
    from curation.ledger.edit_lists import read_edit_list

    return [(url, read_edit_list(url).table) for url in urls]


def _print_report(answer: Mapping[str, Any]) -> None:
    click.echo(f"{answer['edits']:,} edits of {answer['samples']:,} samples")
    _print_counts(answer["counts"])
    if answer["unknown"] is not None:
        click.echo(f"  {answer['unknown']:,} uids are not in the corpus of the latest snapshot")
    for row in answer["rows"]:
        shown = " ".join(row[name] for name in ("field", "value") if row[name] is not None)
        by = f"  ({row['by']})" if row["by"] else ""
        click.echo(printable(f"  {row['uid']}  {row['verb']:<8}  {shown}{by}"))
    if count := answer["contradicting"]:
        end = "; the last list wins" if answer["resolved"] else ""
        click.echo(f"{count:,} contradictions{end}", err=True)
    for row in answer["contradictions"]:
        sides = (f"{row[side]}: {row[f'{side}_asks']}" for side in ("left", "right"))
        click.echo(printable(f"  {row['uid']}  {row['slot']}  {' | '.join(sides)}"), err=True)


def _print_counts(found: Mapping[str, int]) -> None:
    for name, count in found.items():
        click.echo(printable(f"  {name:<16}  {count:,}"))
