"""`curate repair`: rebuild the objects that `curate verify` finds damaged, as far as the inputs allow."""

from __future__ import annotations

import click

from curation.core.printable import printable
from jobs.commands.verify import address_option, all_option, rescore_option, seed_option
from jobs.engine import executor_option
from jobs.options import json_option, print_json


@click.command(
    epilog="\b\nExamples:\n  curate repair s3://curated/objects            # lists the repairs\n"
    "  curate repair s3://curated/objects --apply\n  curate repair demo/curated@2 --rescore 1.0 --apply"
)
@click.argument("dataset", metavar="OUT[@N]")
@click.option("--apply", is_flag=True, help="Repair; without this option, only list the repairs.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Give up snapshots whose documents are missing: LATEST will name the newest one that exists, and the lost "
    "numbers stay unused. Objects that only lost snapshots name become garbage.",
)
@rescore_option
@seed_option
@address_option
@executor_option
@all_option
@json_option
def repair(
    dataset: str,
    apply: bool,
    accept_loss: bool,
    rescore: float,
    seed: int,
    address: str | None,
    executor: str,
    every: bool,
    as_json: bool,
) -> None:
    """Rebuild the objects that `curate verify` finds damaged.

    These may be score tables, commit records, output shards, manifest parts, plans, indexes and documents. Output
    shards are rebuilt to the byte from the input shards, under the names that the snapshot records. Replaced documents
    are first copied to OUT/repairs, where a record of the repair is written. Safe to kill and to repeat. What can't be
    rebuilt is listed with the reason, and the exit code is 4.
    """
    from curation.core.errors import VerifyError
    from curation.curating.verification.repairs import begin_repair, dry_run, finish_repair
    from curation.curating.verification.verify import locate, older
    from jobs.commands.verify import checks, chosen

    store, number = locate(dataset)
    repairs = begin_repair(store, number) if apply else dry_run(store)
    also = older(store, number) if every else []
    choice = chosen(store, number, address, executor)
    click.echo(str(choice), err=True)
    options = {"rescore": rescore, "seed": seed, "accept_loss": accept_loss}
    with checks(store, number, repairs, address, choice=choice, also=also, **options) as work:  # type: ignore[arg-type]
        findings = list(work.findings())
    left = [item for item in findings if not item.mended]
    record = finish_repair(repairs, number, findings, work.lost) if apply else None
    if as_json:
        found = [item.to_json() for item in findings]
        print_json({"snapshot": number, "applied": apply, "record": record, "notes": work.notes, "findings": found,
                    "executor": choice._asdict()})  # fmt: skip
    else:
        for item in findings:
            said = (
                f"repaired: {item.how}"
                if item.mended
                else f"would repair: {item.how}"
                if item.how
                else f"can't: {item.why}"
            )
            click.echo(f"  {printable(str(item))}\n    {printable(said)}")
        if not findings:
            click.echo(f"nothing to do: {store.url}@{number} equals its recomputed values")
        elif record:
            done = f"repaired {len(findings) - len(left):,} of {len(findings):,} findings"
            click.echo(f"{done}; record: {store.location(record)}")
    if lost := [item for item in left if not item.how]:
        text = f"{dataset}: {len(lost):,} of {len(findings):,} findings can't be repaired; the first is: {lost[0]}"
        raise VerifyError(text, fix=lost[0].why)
    if findings and not apply and not as_json:
        click.echo(f"dry run: curate repair {dataset}{' --all' * every} --apply does it")
