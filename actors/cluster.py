"""Connect to a Ray cluster, or start one on this machine that only its owner can talk to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

import ray

from curation.errors import TutelageError

T = TypeVar("T")
R = TypeVar("R")


class ClusterError(TutelageError):
    """The Ray cluster could not be reached or started."""

    code = "no_cluster"
    exit_code = 3


def address_of(address: str | None) -> str | None:
    """The cluster that is asked for: `address`, or RAY_ADDRESS; None for one on this machine."""
    return address or os.environ.get("RAY_ADDRESS") or None


def is_connected() -> bool:
    """Whether this process uses a cluster already."""
    return bool(ray.is_initialized())


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS, as inside a submitted job); else start a local one and stop it.

    A local cluster listens on loopback, asks for a token (Ray's default for new local clusters) and has no dashboard.
    """
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # Ray's own account of a run goes to its log files
    where = address_of(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not where:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=where or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        fix = "check RAY_ADDRESS and the cluster's token, or leave RAY_ADDRESS out to run on this machine"
        raise ClusterError(f"no Ray cluster at {where or 'this machine'}: {line}", fix=fix) from None
    try:
        with redirect_stdout(sys.stderr):  # Ray tells there of workers that died, and what we print is for machines
            yield
    finally:
        ray.shutdown()


def cpus() -> int:
    """CPUs of the whole cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus() -> float:
    """GPUs of the whole cluster."""
    return float(ray.cluster_resources().get("GPU", 0))


def map_bounded(
    function: Callable[[T], R], items: Iterable[T], *, width: int, num_cpus: float = 1, num_gpus: float = 0
) -> Iterator[R]:
    """Run `function` on every item as Ray tasks, at most `width` at a time; results as they come.

    Items are drawn only when there is room, so neither they nor their results pile up in the driver. A task whose
    worker dies is tried again by Ray; an error that the function raises ends the run.
    """
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=5)(_call)
    shared = ray.put(function)
    running: set[Any] = set()
    for item in items:
        running.add(task.remote(shared, item))
        if len(running) >= width:
            yield from _finished(running)
    while running:
        yield from _finished(running)


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


def _finished(running: set[Any]) -> Iterator[Any]:
    """Wait for one task, take it out of `running`, hand out its result; its own error rather than Ray's wrapper."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    running.discard(done)
    try:
        yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise unwrap(error) from None


def unwrap(error: BaseException) -> BaseException:
    """The `TutelageError` inside Ray's wrappers, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TutelageError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error
