"""`curate scores`: list, export and delete the score tables that runs share."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from curation.core.printable import printable
from jobs.options import json_option, print_json, recipe_argument, set_option

store_argument = click.argument("store", metavar="SCORES")


@click.group()
def scores() -> None:
    """List, export and delete score tables, which runs share.

    A run reuses every table of the same shard and scorer fingerprint.
    """


@scores.command("ls", epilog="\b\nExample:\n  curate scores ls s3://curated/scores")
@store_argument
@json_option
def scores_ls(store: str, as_json: bool) -> None:
    """List the score columns of a store, by fingerprint."""
    from curation.core.progress import progress
    from curation.curating.score_store import inventory

    with progress("Reading records", None, "tables") as tick:
        found = inventory(_ledger(store), tick)
    if as_json:
        print_json([held.to_json() for held in found])
        return
    _echo(found)
    click.echo(f"{len(found):,} columns, {sum(held.bytes for held in found):,} bytes", err=True)


@scores.command("show", epilog="\b\nExample:\n  curate scores show recipe.yaml")
@recipe_argument
@set_option
@json_option
def scores_show(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show how many shards of a recipe each score column covers."""
    from collections import Counter

    from curation.curating import planning
    from curation.curating.pipeline import pipeline
    from curation.recipes.curation_recipe import load_recipe

    with pipeline(load_recipe(recipe, overrides), dry=True) as work:
        plan = planning.make_plan(work, write=False)
        lacks: Counter[str] = Counter()
        for names in planning.missing_units(work, plan).column("lacks").to_pylist():
            lacks.update(names)
        rows: list[dict[str, Any]] = [
            {"column": column.name, "fingerprint": column.fingerprint, "shards": plan.units - lacks[column.name]}
            for column in work.columns
        ]
        url = work.scored.store.url
    if as_json:
        print_json({"scores": url, "planned": plan.units, "columns": rows})
        return
    for row in rows:
        click.echo(
            f"{row['fingerprint'][:12]}  {row['shards']:>10,} of {plan.units:,} shards  {printable(row['column'])}"
        )


@scores.command(
    "export", epilog="\b\nExample:\n  curate scores export recipe.yaml --out s3://exchange/s --only clip_score"
)
@recipe_argument
@set_option
@click.option("--out", required=True, metavar="URL", help="Folder for the Parquet files.")
@click.option("--only", multiple=True, metavar="COLUMN", help="Export only this score column (repeatable).")
@json_option
def scores_export(recipe: str, overrides: tuple[str, ...], out: str, only: tuple[str, ...], as_json: bool) -> None:
    """Write the samples of a recipe's corpus with their scores as Parquet.

    Each file holds a million rows, with a row for every sample. The folder must not contain an earlier export, because
    files left over from a larger one would mix with the new ones.
    """
    from curation.core.errors import UnknownNameError, UserError
    from curation.core.progress import progress
    from curation.curating import planning
    from curation.curating.pipeline import pipeline
    from curation.curating.run import report_unreadable
    from curation.curating.score_store import FIRST_PART, export
    from curation.ledger.unreadable import by_reason
    from curation.recipes.curation_recipe import load_recipe
    from curation.storage.store import open_store

    target = open_store(out)
    if target.exists(FIRST_PART):
        raise UserError(
            f"{out} already contains an export", fix="choose another folder for --out, or delete that export"
        )
    files: list[str] = []
    with pipeline(load_recipe(recipe, overrides), dry=True) as work, tempfile.TemporaryDirectory() as folder:
        index, *columns = work.columns
        for name in only:
            if name not in {column.name for column in columns}:
                have = ", ".join(column.name for column in columns)
                raise UnknownNameError(f"the recipe has no score column {name}", fix=f"choose one of: {have}")
        chosen = [index, *(column for column in columns if not only or column.name in only)]
        plan = planning.make_plan(work, write=False)
        planning.recall_unreadable(work, plan)
        aside = work.unreadable
        shards = (shard for shard in plan.shards() if shard not in aside)
        with progress("Exporting", None) as tick:
            for path in export(work.scored, shards, chosen, Path(folder), tick):
                target.put_file(path.name, path)
                path.unlink()
                files.append(target.location(path.name))
    if aside:
        report_unreadable(aside)
    if as_json:
        print_json({"files": files, "unreadable": by_reason(aside)})
    else:
        click.echo("\n".join(files))


@scores.command("gc", epilog="\b\nExamples:\n  curate scores gc s3://curated/scores --keep a.yaml --keep b.yaml\n"
                             "  curate scores gc s3://curated/scores --keep a.yaml --delete")  # fmt: skip
@store_argument
@click.option("--keep", multiple=True, metavar="RECIPE", help="Keep the columns of this recipe (repeatable).")
@click.option(
    "--keep-snapshots",
    multiple=True,
    metavar="OUT",
    help="Keep the columns of all snapshots of this dataset (repeatable).",
)
@click.option("--delete", is_flag=True, help="Delete the columns; without this option, only list them.")
@click.option("--grace", default="24h", show_default=True, metavar="TIME",
              help="Of tables younger than this (m, h, d; 1h at least), delete the record only; `curate gc` deletes "
                   "the table later.")  # fmt: skip
@json_option
def scores_gc(
    store: str, keep: tuple[str, ...], keep_snapshots: tuple[str, ...], delete: bool, grace: str, as_json: bool
) -> None:
    """Delete score columns that no named recipe or snapshot uses.

    Scoring them again costs what it cost the first time. The command reads every record first, and deletes nothing if
    one of them can't be read. To delete tables that no record names, run `curate gc SCORES`.
    """
    from curation.core.errors import UserError
    from curation.core.progress import progress
    from curation.curating.garbage import parse_duration
    from curation.curating.score_store import take_out
    from curation.recipes.curation_recipe import load_recipe

    if not keep and not keep_snapshots:
        raise UserError(
            "no columns to keep were named", fix="add --keep RECIPE or --keep-snapshots OUT (both repeatable)"
        )
    wanted = {fingerprint for path in keep for fingerprint in load_recipe(path).fingerprints.values()}
    wanted |= {fingerprint for url in keep_snapshots for fingerprint in _of_snapshots(url)}
    with progress("Reading records", None, "tables") as tick:
        found = take_out(_ledger(store), wanted, delete=delete, grace=parse_duration(grace), tick=tick)
    if as_json:
        print_json({"deleted": delete, "columns": [held.to_json() for held in found]})
        return
    _echo(found)
    total = sum(held.bytes for held in found)
    click.echo(f"{'deleted' if delete else 'would delete'} {len(found):,} columns, {total:,} bytes")


def _of_snapshots(url: str) -> set[str]:
    import curation as cu
    from curation.curating.garbage import snapshots

    latest = cu.open(url)
    documents = (document for _, document in snapshots(latest.store))
    return {fingerprint for document in documents for fingerprint in document.fingerprints.values()}


def _ledger(url: str) -> Any:
    from curation.ledger.ledger import Ledger
    from curation.storage.store import open_store

    return Ledger(open_store(url))


def _echo(found: Any) -> None:
    for held in found:
        names = ", ".join(sorted(held.names))
        click.echo(f"{held.fingerprint[:12]}  {held.units:>9,} shards {held.samples:>13,} samples "
                   f"{held.bytes:>15,} bytes  {printable(names)}")  # fmt: skip
