"""A Ray cluster on this machine for one command: it starts even under load, and stops in any state.

Ray 2.60 gives its raylet 30 s to register (`ray/_private/node.py`, a constant), and the raylet first waits for two
Python agents to start: on a loaded machine 30 s are too short. `start` waits as long as the raylet lives,
at most `START_SECONDS`, and tries once more for `SECOND_START_SECONDS`. Ray declares a raylet dead when its heartbeats
are late by 15-45 s. Ours has ten minutes, since its process notices the death of a raylet.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import ray

from actors.waiting import ClusterError, dead_processes

START_SECONDS = 90.0  # until the raylet has registered
SECOND_START_SECONDS = 300.0  # the same for the second attempt
STOP_SECONDS = 60.0  # limit for Ray's own shutdown; it takes 15 s if its GCS is dead
FIX = (
    "free memory, CPU and /dev/shm on this machine, or name a cluster: RAY_ADDRESS or --address; "
    "Ray's logs are below /tmp/ray/session_latest/logs"
)
_PATIENT = {
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 10,
    "worker_register_timeout_seconds": 300,
}
_SERVICES = ("start_api_server", "start_monitor", "start_log_monitor")  # of `ray._private.node.Node`
_RAYLET = re.compile(r"(\x1b\[\d+m)*\(raylet[^)]*\)")


def note(state: bytes) -> None:
    """Report to the parent process (`jobs.supervised`): R, a cluster is in use from now on; E, it is not."""
    with suppress(OSError, ValueError):
        os.write(int(os.environ.get("CURATE_STATE_FD", "")), state)


def start() -> None:
    """Start a cluster of this machine's CPUs and GPUs, in two attempts. Raises `ClusterError` with one line."""
    # Seconds of one request for the node: between two requests a dead raylet is noticed.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "1")
    for seconds in (START_SECONDS, SECOND_START_SECONDS):
        try:
            with _patience(seconds), _without_services():
                ray.init(
                    "local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
                    logging_level=logging.ERROR, _system_config=dict(_PATIENT),
                )  # fmt: skip
            return
        except Exception as error:  # Ray raises a plain Exception if its node does not start
            stop()
            if isinstance(error, ValueError | TypeError | ImportError):
                raise ClusterError(f"no Ray cluster on this machine: {line_of(error)}", fix=FIX) from error
            if seconds == SECOND_START_SECONDS:
                raise ClusterError(f"no Ray cluster on this machine: {line_of(error)}", fix=FIX) from error
            more = f"trying once more, with up to {SECOND_START_SECONDS:.0f} s"
            print(f"curate: Ray did not start ({line_of(error)}); {more}", file=sys.stderr, flush=True)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """While a node starts, wait for it up to `seconds`, as long as its raylet lives. Ray itself gives up after 30."""
    from ray._private import services

    original: Callable[..., Any] | None = getattr(services, "get_node", None)
    deadline = time.monotonic() + seconds

    def get_node(*arguments: Any, **options: Any) -> Any:
        assert original is not None
        while True:
            try:
                return original(*arguments, **options)
            except RuntimeError:
                if Path("/proc/self").exists() and not _children("raylet"):
                    raise RuntimeError("its raylet died while it started") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    if original is None:  # another version of Ray: keep its own limit
        yield
        return
    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = original


@contextmanager
def _without_services() -> Iterator[None]:
    """Start a node without the processes that no one asks here: dashboard, autoscaler, log forwarding.

    `include_dashboard=False` starts a dashboard without pages, which `ray.init` waits for, and Ray has no option for
    the other two. Together they take 4 CPU seconds of each start.
    """
    from ray._private.node import Node

    originals = {name: getattr(Node, name) for name in _SERVICES if hasattr(Node, name)}
    for name in originals:
        setattr(Node, name, lambda self, *arguments, **options: None)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Node, name, original)


def stop() -> None:
    """Leave the cluster and end the processes that were started for it, including those of a failed start."""
    node = ray._private.worker._global_node
    if node is not None and dead_processes():
        with suppress(OSError, RuntimeError):  # a shutdown would wait for the dead ones
            node.kill_all_processes(check_alive=False, allow_graceful=False)
    failed: list[BaseException] = []
    thread = threading.Thread(target=_shut_down, args=(failed,), daemon=True, name="tutelage-stop")
    thread.start()
    thread.join(STOP_SECONDS)
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if thread.is_alive():
        text = f"Ray's shutdown has not ended within {STOP_SECONDS:.0f} s"
        raise ClusterError(text, fix="run the same command again: committed work is kept")


def _shut_down(failed: list[BaseException]) -> None:
    try:
        ray.shutdown()
    except Exception as error:  # noqa: BLE001  (the cluster may be in any state; its processes are ended below)
        failed.append(error)


def _children(name: str = "") -> list[int]:
    """Return the living children of this process that belong to its Ray session: all, or those called `name`."""
    found, ours = [], f"session_{'.' * 26}_{os.getpid()}(?!\\d)"
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            called, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if int(parent) != os.getpid() or state == "Z" or (name and called != name):
                continue
            if re.search(ours, (entry / "cmdline").read_bytes().decode(errors="replace")):
                found.append(int(entry.name))
    return found


def line_of(error: BaseException) -> str:
    """Return an error's message as one line of at most 300 characters."""
    return next(iter(str(error).strip().splitlines()), "")[:300] or type(error).__name__


class _WithoutRaylets:
    """A stream without Ray's messages about its workers: 20 lines for each death, which we report in one line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._left_out = stream, False

    def write(self, text: str) -> int:
        if _RAYLET.match(text) or (self._left_out and text == "\n"):
            self._left_out = text != "\n"
            return len(text)
        self._left_out = False
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def without_raylets(stream: TextIO) -> Any:
    """Return a stream that forwards everything but Ray's messages about its workers."""
    return _WithoutRaylets(stream)
