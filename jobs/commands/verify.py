"""`curate verify`: compare a snapshot and the chain of its parents with recomputed values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import click

from curation.core.printable import printable
from jobs.engine import Choice, connected, connected_executor, executor_option, named, of_samples
from jobs.options import json_option, print_json

if TYPE_CHECKING:
    from curation.curating.verification.all_checks import AllChecks
    from curation.curating.verification.findings import Finding
    from curation.curating.verification.repairs import RepairWriter
    from curation.dataset.snapshot import Snapshot
    from curation.storage.store import Store

rescore_option = click.option(
    "--rescore",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Score this share of the input shards again and compare the values; 1.0 compares all. Values must be equal to "
    "the bit with the software that made the snapshot, and within 0.005 (absolute or relative) with other software.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of the choice of shards for --rescore.")
address_option = click.option("--address", help="Ray cluster to run on. Default: RAY_ADDRESS, else this machine.")


all_option = click.option(
    "--all", "every", is_flag=True,
    help="Also check all older snapshots that exist. Parts that several of them share are checked once.",
)  # fmt: skip


@click.command(
    epilog="\b\nExamples:\n  curate verify s3://curated/objects\n  curate verify demo/curated@2 --rescore 0.01\n"
    "  curate verify --json demo/curated | jq .findings"
)
@click.argument("dataset", metavar="OUT[@N]")
@rescore_option
@seed_option
@address_option
@executor_option
@all_option
@json_option
def verify(
    dataset: str, rescore: float, seed: int, address: str | None, executor: str, every: bool, as_json: bool
) -> None:
    """Recompute a snapshot from its inputs; fail on any difference.

    Recomputes the chain of snapshots, the plan, uids, hashes, captions, sizes and reasons from the input shards,
    decisions and sample weights from the score tables, output shards to the byte, the manifest, every count and the
    document; with --rescore also scores. --all checks older snapshots too, and OUT@N checks one of them. Each finding
    names the damaged object; `curate repair` rebuilds what it can. OUT may also be a review queue: see `curate review
    verify`.
    """
    from curation.core.errors import VerifyError
    from curation.curating.verification.repairs import dry_run
    from curation.curating.verification.verify import locate, older
    from curation.review.queue import is_queue

    if is_queue(dataset):
        from jobs.commands.review import verify_and_report

        verify_and_report(dataset, pictures=True, as_json=as_json)
        return
    store, number = locate(dataset)
    others = older(store, number)
    also = others if every else []
    choice = chosen(store, number, address, executor)
    click.echo(str(choice), err=True)
    with checks(store, number, dry_run(store), address, choice=choice, also=also, rescore=rescore, seed=seed) as work:
        findings = list(work.findings())
    if as_json:
        found = [item.to_json() for item in findings]
        checked = {"snapshot": number, "also_checked": also, "not_checked": [] if every else others}
        print_json({**checked, "ok": not findings, "samples": work.samples, "notes": work.notes, "findings": found,
                    "executor": choice._asdict()})  # fmt: skip
    else:
        for item in findings:
            click.echo(printable(f"  {item}"), err=True)
        for note in work.notes:
            click.echo(printable(f"  note: {note}"), err=True)
        if others and not every:
            root = store.url.removeprefix("file://")
            names = f"@{others[0]}" if len(others) == 1 else f"@{others[0]} to @{others[-1]}"
            click.echo(f"  not checked: older live snapshots {names}: curate verify {root}@N, or --all", err=True)
    if findings:
        fix = _fix(f"{dataset} --all" if every else dataset, findings, rescore, seed)
        raise VerifyError(f"{dataset}: {_count(findings)}, the first: {findings[0]}", fix=fix)
    if not as_json:
        what = (
            f"{work.samples:,} samples in, {work.shards:,} shards out" if number else "no snapshot, all documents read"
        )
        more = f" and {len(also):,} older snapshots" if also else ""
        click.echo(f"verified {store.url}{f'@{number}' if number else ''}{more}: {what}, no difference")


@contextmanager
def checks(
    store: Store,
    number: int,
    repairs: RepairWriter,
    address: str | None = None,
    *,
    choice: Choice | None = None,
    also: Sequence[int] = (),
    rescore: float = 0.0,
    seed: int = 0,
    accept_loss: bool = False,
    quiet: bool = False,
) -> Iterator[AllChecks]:
    """The checks of a snapshot, and `also` of older ones, on the executor that was chosen, or on the one that fits."""
    from curation.curating.verification.verify import checks_of

    choice = choice or chosen(store, number, address, "auto")
    with connected_executor(choice, address) as on:
        options: dict[str, Any] = {} if quiet else {"shown": _shown}
        yield checks_of(
            store, number, repairs, on, also=also, rescore=rescore, seed=seed, accept_loss=accept_loss, **options
        )


def chosen(store: Store, number: int, address: str | None, executor: str) -> Choice:
    """The executor for checks of a snapshot: as the options say, else by its samples."""
    from curation.curating.verification.verify import samples_of

    return named(executor, address) or connected() or of_samples(samples_of(store, number))


def problems_of(snapshot: Snapshot, **options: Any) -> list[Finding]:
    """The findings of a snapshot, in silence."""
    from curation.curating.verification.repairs import dry_run

    with checks(snapshot.store, snapshot.number, dry_run(snapshot.store), quiet=True, **options) as work:
        return list(work.findings())


def _shown(label: str, total: int | None) -> AbstractContextManager[Any]:
    from curation.core.progress import progress

    return progress(label, total, "units")


def _count(findings: list[Finding]) -> str:
    return f"{len(findings):,} finding{'s' if len(findings) != 1 else ''}"


def _fix(dataset: str, findings: list[Finding], rescore: float, seed: int) -> str:
    """Return the fix: a repair if it helps with any finding, else the advice of the first finding."""
    if not any(item.how for item in findings):
        return findings[0].why
    again = f" --rescore {rescore} --seed {seed}" if rescore else ""
    return f"`curate repair {dataset}{again} --apply` rebuilds what can be; without --apply it lists the repairs"
