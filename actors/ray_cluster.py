"""Connect to a Ray cluster, or start one on this machine that only its owner can talk to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TypeVar

import ray

from actors import local_cluster, waiting
from actors.waiting import ClusterError, LostClusterError
from curation.core.errors import TutelageError

__all__ = ["ClusterError", "LostClusterError", "address_of", "cpus", "gpus", "on_cluster", "ray_cluster"]

T = TypeVar("T")

RESTARTS = 3  # of a broken local cluster; after these, something on this machine breaks every cluster


def address_of(address: str | None) -> str | None:
    """Return the requested cluster: `address`, or RAY_ADDRESS; None for one on this machine."""
    return address or os.environ.get("RAY_ADDRESS") or None


def is_connected() -> bool:
    """Return whether this process is already connected to a cluster."""
    return bool(ray.is_initialized())


def on_cluster(address: str | None, work: Callable[[], T]) -> T:
    """Return the result of `work`, which must be safe to repeat, on the cluster at `address` or a local one.

    If a local cluster breaks (its raylet, its GCS or one of its agents dies), another one replaces it and `work` starts
    again and finds its committed results, up to `RESTARTS` times. Raises `LostClusterError` for a remote cluster.
    """
    for attempt in range(RESTARTS + 1):
        own = not ray.is_initialized() and address_of(address) is None
        try:
            with ray_cluster(address):
                return work()
        except LostClusterError as error:
            if not own:
                raise
            if attempt == RESTARTS:
                fix = "see Ray's logs below /tmp/ray/session_latest/logs, and whether this machine is short of memory"
                raise LostClusterError(f"{error}, for the {attempt + 1}th time in this run", fix=fix) from None
            print(f"curate: {error}; starting another one to continue", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS, as inside a submitted job); else start a local one and stop it.

    A local cluster listens on loopback, asks for a token (Ray's default for new local clusters) and has no dashboard.
    Uncaught errors of Ray become a `ClusterError` or a `LostClusterError`.
    """
    if ray.is_initialized():
        with _explained():
            yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # Ray logs to its own files
    # Ray ends a process whose GCS it has not reached for 60 s, even if the process has moved to another cluster;
    # `waiting` notices a dead GCS earlier. Ray reads this variable on its first use.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(7 * 86_400))
    where = address_of(address)
    if where:
        _connect(where)
    else:
        local_cluster.start()
    with redirect_stdout(local_cluster.without_raylets(sys.stderr)):  # Ray prints to stdout, where our answers go
        try:
            local_cluster.note(b"R")
            with _explained():
                yield
        finally:
            local_cluster.stop()
            local_cluster.note(b"E")


def _connect(where: str) -> None:
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        fix = "check RAY_ADDRESS and the cluster's token, or leave RAY_ADDRESS out to run on this machine"
        raise ClusterError(f"no Ray cluster at {where}: {local_cluster.line_of(error)}", fix=fix) from None


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an error of Ray into one of ours: the error that a task raised, a lost cluster, or Ray's message."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise explained(error) from error


def explained(error: BaseException) -> BaseException:
    """Return the `TutelageError` for an error of Ray, and any other error unchanged. Checks the cluster."""
    found = unwrap(error)
    if not isinstance(found, ray.exceptions.RayError):
        return found
    try:
        if ray.is_initialized():
            waiting.check()
    except LostClusterError as lost:
        return lost
    if isinstance(found, ray.exceptions.RayTaskError):
        cause = getattr(found, "cause", None) or found
        text = f"a task on the Ray cluster fails: {type(cause).__name__}: {local_cluster.line_of(cause)}"
        return ClusterError(text, fix="--debug shows where; run the same command again to continue")
    text = f"the Ray cluster fails: {type(found).__name__}: {local_cluster.line_of(found)}"
    return ClusterError(text, fix=waiting.LOST_FIX)


def cpus() -> int:
    """Return the number of CPUs of the whole cluster, at least 1."""
    return max(1, int(waiting.ask(ray.cluster_resources).get("CPU", 1)))


def gpus() -> float:
    """Return the number of GPUs of the whole cluster."""
    return float(waiting.ask(ray.cluster_resources).get("GPU", 0))


def unwrap(error: BaseException) -> BaseException:
    """Return the `TutelageError` inside Ray's wrappers, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TutelageError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error
