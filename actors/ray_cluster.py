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

RESTARTS = 3  # of a local cluster that broke; then something on this machine breaks them all


def address_of(address: str | None) -> str | None:
    """The cluster that is asked for: `address`, or RAY_ADDRESS; None for one on this machine."""
    return address or os.environ.get("RAY_ADDRESS") or None


def is_connected() -> bool:
    """Whether this process uses a cluster already."""
    return bool(ray.is_initialized())


def on_cluster(address: str | None, work: Callable[[], T]) -> T:
    """The result of `work`, which must be safe to repeat, on the cluster at `address` or a local one.

    A local cluster that breaks meanwhile (its raylet, its GCS or one of its agents dies) is replaced by another, and
    `work` begins again and finds what it has committed; `RESTARTS` times. Raises `LostClusterError` for a remote one.
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
                fix = "see Ray's logs below /tmp/ray/session_latest/logs, and whether this machine lacks memory"
                raise LostClusterError(f"{error}, for the {attempt + 1}th time in this run", fix=fix) from None
            print(f"curate: {error}; starting another one to continue", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Use the cluster at `address` (or RAY_ADDRESS, as inside a submitted job); else start a local one and stop it.

    A local cluster listens on loopback, asks for a token (Ray's default for new local clusters) and has no dashboard.
    Whatever Ray raises meanwhile and nobody caught becomes a `ClusterError` or a `LostClusterError`.
    """
    if ray.is_initialized():
        with _explained():
            yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # Ray's own account of a run goes to its log files
    # Ray ends a process whose GCS it has not reached for 60 s, also one that is on another cluster by then; `waiting`
    # finds such a GCS out before. Read when Ray is first used.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(7 * 86_400))
    where = address_of(address)
    if where:
        _connect(where)
    else:
        local_cluster.start()
    with redirect_stdout(local_cluster.without_raylets(sys.stderr)):  # Ray prints there; what we print is for machines
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
    """An error of Ray's as one of ours: what a task raised on purpose, a cluster that is lost, or what Ray says."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise explained(error) from error


def explained(error: BaseException) -> BaseException:
    """The `TutelageError` for an error of Ray's; an error that is none of Ray's, itself. Looks at the cluster."""
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
        return ClusterError(text, fix="--debug shows where; run the same command again to go on")
    text = f"the Ray cluster fails: {type(found).__name__}: {local_cluster.line_of(found)}"
    return ClusterError(text, fix=waiting.LOST_FIX)


def cpus() -> int:
    """CPUs of the whole cluster, at least 1."""
    return max(1, int(waiting.ask(ray.cluster_resources).get("CPU", 1)))


def gpus() -> float:
    """GPUs of the whole cluster."""
    return float(waiting.ask(ray.cluster_resources).get("GPU", 0))


def unwrap(error: BaseException) -> BaseException:
    """The `TutelageError` inside Ray's wrappers, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TutelageError) and not isinstance(seen, ray.exceptions.RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return error
