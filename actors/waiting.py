"""All waits for Ray: each has a deadline, or checks the cluster every few seconds.

`ray.wait` and `ray.get` without a timeout wait for ever once the raylet or the GCS has died, because Ray expects a
restart that never comes. Here a wait without a result for `LOOK_SECONDS` checks whether the cluster is alive, and
raises `LostClusterError` if it is not. A test keeps bare `ray.get` and `ray.wait` out of this package.

Cost: nothing for a wait that ends within `LOOK_SECONDS`; otherwise one request to the GCS for each check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

from curation.core.errors import TutelageError
from curation.core.parallel import NoAnswerError, call_with_timeout

T = TypeVar("T")

LOOK_SECONDS = 5.0  # between two checks of the cluster by a driver
WORKER_LOOK_SECONDS = 30.0  # the same for a worker, which dies with its raylet; a thousand of them share one GCS
# Limit for an answer of the GCS. Ray ends a process that can't reach it for 60 s, without a message: stay below that.
ANSWER_SECONDS = 45.0
FETCH_SECONDS = 300.0  # limit for fetching a finished result, which is on this node by then


class ClusterError(TutelageError):
    """The Ray cluster could not be reached, could not be started, or is too small for the request."""

    code = "no_cluster"
    exit_code = 3


class LostClusterError(ClusterError):
    """The cluster broke while it was used: its raylet, its GCS or its node on this machine died."""

    code = "lost_cluster"


LOST_FIX = "run the same command again: committed work is kept"


def wait(
    refs: Sequence[Any], *, num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """Call `ray.wait` for at most `timeout` seconds, or for as long as the cluster lives. Raises `LostClusterError`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    look = LOOK_SECONDS if _is_driver() else WORKER_LOOK_SECONDS
    while True:
        _check_processes()  # first: Ray's own calls would end this process (`jobs.supervised`)
        seconds = look if deadline is None else max(0.0, min(look, deadline - time.monotonic()))
        done, rest = ray.wait(list(refs), num_returns=num_returns, timeout=seconds)
        if len(done) >= num_returns or (deadline is not None and time.monotonic() >= deadline):
            return done, rest
        check()


def get(ref: Any) -> Any:
    """Wait for the value of one reference and return it. Raises the task's error, or `LostClusterError`."""
    wait([ref])
    try:
        return ray.get(ref, timeout=FETCH_SECONDS)
    except ray.exceptions.GetTimeoutError:
        check()
        text = f"an object of the Ray cluster did not arrive within {FETCH_SECONDS:.0f} s"
        raise LostClusterError(text, fix=LOST_FIX) from None


def ask(question: Callable[[], T], what: str = "its GCS") -> T:
    """Return the answer to a request to the GCS. Raises `LostClusterError` if none arrives within `ANSWER_SECONDS`."""
    try:
        return call_with_timeout(question, ANSWER_SECONDS, _check_processes)
    except NoAnswerError:
        why = f"has not answered for {ANSWER_SECONDS:.0f} s"
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        why = f"answers with {_line(error)}"
    raise LostClusterError(f"the Ray cluster is lost: {what} {why}", fix=LOST_FIX)


def check() -> None:
    """Raise `LostClusterError` unless the cluster is alive: the processes that we started, the GCS and our node."""
    _check_processes()
    nodes = ask(ray.nodes)
    if not _is_driver():
        return  # a worker of a dead node dies with it
    here = ray.get_runtime_context().get_node_id()
    for node in nodes:
        if node["NodeID"] == here and not node["Alive"]:
            why = node.get("DeathReasonMessage") or "it was declared dead"
            raise LostClusterError(f"the Ray cluster is lost: this machine's node is dead: {_line(why)}", fix=LOST_FIX)


def _check_processes() -> None:
    if dead := dead_processes():
        raise LostClusterError(f"the Ray cluster on this machine is lost: its {dead[0]} died", fix=LOST_FIX)


def dead_processes() -> list[str]:
    """Return which processes of the local cluster that this process started have died: `raylet`, `gcs_server`."""
    node = ray._private.worker._global_node
    if node is None or not node.is_head():
        return []
    found = ((name, item.process) for name in ("gcs_server", "raylet") for item in node.all_processes.get(name, ()))
    return [name for name, process in found if process.poll() is not None]


def _is_driver() -> bool:
    return bool(ray._private.worker.global_worker.mode != ray.WORKER_MODE)


def _line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]
