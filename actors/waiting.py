"""Every wait for Ray, in one place: with a deadline, or with a look at the cluster every few seconds.

`ray.wait` and `ray.get` without a timeout wait for ever when the raylet or the GCS behind them is gone: Ray hopes for a
restart that never comes. Here a wait that brings nothing for `LOOK_SECONDS` asks whether the cluster still lives, and
raises `LostClusterError` if it does not. A test keeps bare `ray.get` and `ray.wait` out of this package.

Cost: nothing for a wait that ends within `LOOK_SECONDS`; else one request to the GCS a look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

from curation.core.errors import TutelageError
from curation.core.parallel import NoAnswerError, call_with_timeout

T = TypeVar("T")

LOOK_SECONDS = 5.0  # between two looks of a driver at its cluster
WORKER_LOOK_SECONDS = 30.0  # of a worker, which dies with its raylet; a thousand of them ask one GCS
# For an answer of the GCS. Ray ends a process that can't reach it for 60 s, without a word: we have to be first.
ANSWER_SECONDS = 45.0
FETCH_SECONDS = 300.0  # for the value of what is done, which is on this node by then


class ClusterError(TutelageError):
    """The Ray cluster could not be reached, could not be started, or can't hold what is asked of it."""

    code = "no_cluster"
    exit_code = 3


class LostClusterError(ClusterError):
    """The cluster broke while it was used: its raylet, its GCS or this machine's node of it is gone."""

    code = "lost_cluster"


LOST_FIX = "run the same command again: what is committed is kept"


def wait(
    refs: Sequence[Any], *, num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """`ray.wait` for at most `timeout` seconds, or for as long as the cluster lives. Raises `LostClusterError`."""
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
    """The value of one reference, as soon as there is one. Raises what the task raised, or `LostClusterError`."""
    wait([ref])
    try:
        return ray.get(ref, timeout=FETCH_SECONDS)
    except ray.exceptions.GetTimeoutError:
        check()
        text = f"an object of the Ray cluster did not arrive within {FETCH_SECONDS:.0f} s"
        raise LostClusterError(text, fix=LOST_FIX) from None


def ask(question: Callable[[], T], what: str = "its GCS") -> T:
    """The answer to a question that goes to the GCS, which may never come. Raises `LostClusterError`."""
    try:
        return call_with_timeout(question, ANSWER_SECONDS, _check_processes)
    except NoAnswerError:
        why = f"has not answered for {ANSWER_SECONDS:.0f} s"
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        why = f"answers with {_line(error)}"
    raise LostClusterError(f"the Ray cluster is lost: {what} {why}", fix=LOST_FIX)


def check() -> None:
    """Raise `LostClusterError` unless the cluster lives: the processes that this one started, the GCS, our own node."""
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
    """What this process started of a local cluster, must run, and does not run any more: `raylet`, `gcs_server`."""
    node = ray._private.worker._global_node
    if node is None or not node.is_head():
        return []
    found = ((name, item.process) for name in ("gcs_server", "raylet") for item in node.all_processes.get(name, ()))
    return [name for name, process in found if process.poll() is not None]


def _is_driver() -> bool:
    return bool(ray._private.worker.global_worker.mode != ray.WORKER_MODE)


def _line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]
