"""Choose the executor of a command: this process and its workers, or a Ray cluster.

`--executor auto` takes the local executor where no cluster is named and the work fits this machine: with the GPUs that
the recipe asks for, and up to `MOST_UNITS` shards and `MOST_BYTES`, since Ray writes shards in processes and survives a
node that runs out of memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import click

from curation.core.executor import Executor

T = TypeVar("T")

MOST_UNITS = 2_000  # shards
MOST_BYTES = 200 << 30  # about an hour of 8 cores that decode
MOST_SAMPLES = 50_000  # that are checked on this machine: about the time in which Ray starts and stops, on 8 cores

executor_option = click.option(
    "--executor", "executor", type=click.Choice(["auto", "local", "ray"]), default="auto", show_default=True,
    help="Where to work: in processes of this machine, or on a Ray cluster. auto: local where no cluster is named and "
    "the work fits this machine.",
)  # fmt: skip


class Choice(NamedTuple):
    """An executor's name, and why it was chosen."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"executor: {self.name} ({self.why})"


def named(executor: str, address: str | None) -> Choice | None:
    """Return the choice that a command's options and environment settle, or None where the size of the work decides."""
    if executor == "local" and address:
        raise click.UsageError("--executor local and --address exclude each other: leave one out")
    if executor != "auto":
        return Choice(executor, "--executor")
    if address:
        return Choice("ray", "--address names a cluster")
    if os.environ.get("RAY_ADDRESS"):
        return Choice("ray", "RAY_ADDRESS names a cluster")
    return None


def of_units(units: int, size: int, gpus: float) -> Choice:
    """Return the choice for shards to score: their number, their bytes, and the GPUs that a worker needs."""
    if gpus and local_gpus() < gpus:
        return Choice("ray", f"compute.num_gpus is {gpus:g}, and this machine has {local_gpus()}")
    if units > MOST_UNITS or size > MOST_BYTES:
        return Choice("ray", f"{units:,} shards of {size / 1e9:,.1f} GB are more than {MOST_UNITS:,} or "
                             f"{MOST_BYTES / 1e9:,.0f} GB")  # fmt: skip
    return Choice("local", f"no cluster is named; {units:,} shards of {size / 1e6:,.1f} MB fit this machine")


def local_gpus() -> int:
    """Return the number of GPUs of this machine."""
    from curation.core.local_executor import gpus

    return gpus()


def of_samples(samples: int) -> Choice:
    """Return the choice for samples to check."""
    if samples > MOST_SAMPLES:
        return Choice("ray", f"{samples:,} samples are more than {MOST_SAMPLES:,}")
    return Choice("local", f"no cluster is named; {samples:,} samples fit this machine")


def connected() -> Choice | None:
    """Return Ray where this process is connected to a cluster already. Imports no Ray to find out."""
    if "ray" not in sys.modules:
        return None
    from actors.ray_cluster import is_connected

    return Choice("ray", "this process is connected to a cluster") if is_connected() else None


def on_executor(choice: Choice, address: str | None, task: Callable[[Executor], T]) -> T:
    """Call `task` with the executor. A task on Ray is called again where a cluster of this machine broke."""
    if choice.name == "local":
        from curation.core.local_executor import LocalExecutor

        return task(LocalExecutor())
    from actors.ray_cluster import on_cluster
    from actors.ray_executor import RayExecutor

    return on_cluster(address, lambda: task(RayExecutor()))


@contextmanager
def connected_executor(choice: Choice, address: str | None) -> Iterator[Executor]:
    """Use the executor within `with`, for work that is not repeated where a cluster breaks."""
    if choice.name == "local":
        from curation.core.local_executor import LocalExecutor

        yield LocalExecutor()
        return
    from actors.ray_cluster import ray_cluster
    from actors.ray_executor import RayExecutor

    with ray_cluster(address):
        yield RayExecutor()
