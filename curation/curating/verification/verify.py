"""Verify snapshots of a dataset: find them, and set up the checks of one or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from curation.core.errors import NoSnapshotError
from curation.core.executor import Executor
from curation.core.local_executor import LocalExecutor
from curation.core.progress import Tick
from curation.curating.garbage import is_ledger
from curation.curating.verification.all_checks import AllChecks, Remembering
from curation.curating.verification.checks import Checks, quiet
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter, dry_run
from curation.curating.verification.subject import CheckRunner
from curation.dataset.snapshot import split_version
from curation.ledger.snapshot_keys import numbers_there, read_raw
from curation.storage.store import Store, open_store


def verify(
    dataset: str, *, rescore: float = 0.0, seed: int = 0, every: bool = False, executor: Executor | None = None
) -> list[Finding]:
    """Compare a snapshot with what is recomputed from its inputs; return what differs: an empty list for a sound one.

    dataset: `OUT` or `OUT@N`. rescore: the share of input shards that are scored once more, 0 to 1, drawn by `seed`.
    every: check all older snapshots too. executor: where to work; None: this machine. Raises `NoSnapshotError`. Same as
    `curate verify`.
    """
    store, number = locate(dataset)
    also = older(store, number) if every else []
    on = executor or LocalExecutor()
    return list(checks_of(store, number, dry_run(store), on, also=also, rescore=rescore, seed=seed).findings())


def locate(dataset: str) -> tuple[Store, int]:
    """Return the store of `OUT[@N]` and the number of the snapshot; 0 for a ledger without snapshots.

    Without `@N`, the newest snapshot that exists, whatever LATEST names. Raises `NoSnapshotError` for what is no
    ledger.
    """
    root, number = split_version(dataset)
    store = open_store(root)
    there = numbers_there(store)
    if (number and number not in there) or not (there or is_ledger(store)):
        name = f"no snapshot @{number}" if number else "no snapshot"
        raise NoSnapshotError(
            f"{name} in {store.url}", fix=f"there are @1 to @{there[-1]}" if there else "curate run makes one"
        )
    return store, number or max(there, default=0)


def older(store: Store, number: int) -> list[int]:
    """Return the numbers of the snapshots that exist and are older than one, the newest last."""
    return [other for other in numbers_there(store) if other < number]


def samples_of(store: Store, number: int) -> int:
    """Return how many samples a snapshot's document counts; 0 where it is missing or invalid."""
    samples = (read_raw(store, number) or {}).get("samples")
    seen = samples.get("seen") if isinstance(samples, dict) else None
    return seen if isinstance(seen, int) else 0


def checks_of(
    store: Store,
    number: int,
    repairs: RepairWriter,
    executor: Executor,
    *,
    also: Sequence[int] = (),
    rescore: float = 0.0,
    seed: int = 0,
    accept_loss: bool = False,
    shown: Callable[[str, int | None], AbstractContextManager[Tick]] = quiet,
) -> AllChecks:
    """Return the checks of a snapshot and of older ones (`also`), which run as their findings are taken."""
    engine = Remembering(executor) if also else CheckRunner(executor)
    found = set[str]()
    numbers = [number, *reversed(also)]
    return AllChecks([
        Checks(
            store, one, repairs, engine, accept_loss=accept_loss, rescore=rescore, seed=seed, shown=shown, found=found,
            first=one == numbers[0], last=one == numbers[-1],
        )
        for one in numbers
    ])  # fmt: skip
