"""Supervision of commands that use Ray: each runs in a child process, which is restarted if Ray ends it.

If a raylet or the GCS dies, Ray's C++ code ends the driver at once (`_Exit(1)`: "The connection to the plasma store is
failed. Terminate the process."), before Python can report anything. Commands that use Ray therefore run in a fork that
is made before any heavy import (1 ms). The parent waits for the child, passes on its exit code, and starts the command
again if Ray ended it. Nothing is lost, because commands find what they have committed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

STATE = (
    "CURATE_STATE_FD"  # file descriptor to which actors.local_cluster writes R (cluster in use) or E (cluster released)
)
RAY = ("run", "verify", "repair", "learn", "evaluate")  # commands that use Ray
RESTARTS = 3
LOST = 3  # the exit code of cluster errors in `curation.core.errors`
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE_SECONDS = 2.0  # Ctrl-C reaches the child twice, from the terminal and from its parent: one interrupt


def supervised(arguments: Sequence[str], main: Callable[[list[str]], int]) -> int:
    """Return the exit code of `main(arguments)`, run in a child process if the command may use Ray."""
    if not set(RAY) & set(arguments) or {"-h", "--help"} & set(arguments) or not hasattr(os, "fork"):
        return main(list(arguments))
    as_json = "--json" in arguments
    for attempt in range(RESTARTS + 1):
        status, in_ray = _attempt(arguments, main)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return _killed(-code, as_json)
        if code != 1 or not in_ray:
            return code
        local = not os.environ.get("RAY_ADDRESS") and not any(word.startswith("--address") for word in arguments)
        if not local or attempt == RESTARTS:
            break
        if not as_json:
            text = "the Ray cluster on this machine died and ended the run; starting another one to continue"
            print(f"curate: {text}", file=sys.stderr, flush=True)
    fix = "run the same command again; it keeps what is committed"
    _report("lost_cluster", "the Ray cluster died and ended the run", fix, as_json)
    return LOST


def _killed(number: int, as_json: bool) -> int:
    """End this process by the signal that ended the child, so that shells and schedulers see it.

    Returns the exit code instead where that is impossible: after SIGKILL, which leaves no time for a message, and as
    PID 1 of a container, which ignores its own signals.
    """
    if number == signal.SIGKILL:
        fix = "run the same command again; it keeps what is committed. If memory ran out, give it more"
        _report("killed", "the process was killed (SIGKILL), most likely because memory ran out", fix, as_json)
        return 128 + number
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _attempt(arguments: Sequence[str], main: Callable[[list[str]], int]) -> tuple[int, bool]:
    """Run the command in a child; return its wait status, and whether it was using a cluster when it ended."""
    reading, writing = os.pipe()
    parent = os.getpid()
    before = {number: signal.getsignal(number) for number in FORWARDED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # a signal that arrives now waits for its handler
    pid = os.fork()
    if not pid:
        os.close(reading)
        os.environ[STATE] = str(writing)
        _die_with(parent)
        if before[signal.SIGINT] is signal.default_int_handler:
            signal.signal(signal.SIGINT, _once())
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sys.exit(main(list(arguments)))
    os.close(writing)
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda received, frame: _forward(pid, received))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    os.set_blocking(reading, False)  # processes of Ray may hold the other end open
    try:
        states = os.read(reading, 4096)
    except BlockingIOError:
        states = b""
    os.close(reading)
    return status, states.endswith(b"R")


def _forward(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # the child has just ended
        os.kill(pid, number)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _once() -> Callable[[int, FrameType | None], None]:
    """Return a SIGINT handler that raises one `KeyboardInterrupt` for all signals within `TWICE_SECONDS`.

    A second one would interrupt the clean-up that the first one started.
    """
    last = -TWICE_SECONDS

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TWICE_SECONDS:
            last = now
            signal.default_int_handler(number, frame)

    return interrupt


def _report(code: str, text: str, fix: str, as_json: bool) -> None:
    """Print an error as `jobs.cli` does: a line of text, or a JSON object."""
    line = json.dumps({"error": code, "message": text, "fix": fix}) if as_json else f"curate: {text} [{code}] -- {fix}"
    print(line, file=sys.stderr, flush=True)
