"""The command in a process of its own, which Ray may end without a word, and the one that sees it and goes on.

A driver that talks to a raylet or a GCS that is gone is ended by Ray's C++ code (`_Exit(1)`: "The connection to the
plasma store is failed. Terminate the process."), at any moment and before Python can say a thing. So commands that use
Ray are carried out by a fork, made before anything heavy is imported (1 ms); what started it waits for its end, hands
its exit code on, and starts it again where Ray ended it: commands find what they have committed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence

STATE = "CURATE_STATE_FD"  # where actors.local_cluster notes that a cluster is in use (R) and that it is not (E)
RAY = ("run", "verify", "repair", "learn", "evaluate")  # commands that use Ray
RESTARTS = 3
LOST = 3  # exit code of `curation.errors` for what a cluster does


def supervised(arguments: Sequence[str], main: Callable[[list[str]], int]) -> int:
    """The exit code of `main(arguments)`, in another process where the command may use Ray."""
    if not set(RAY) & set(arguments) or {"-h", "--help"} & set(arguments) or not hasattr(os, "fork"):
        return main(list(arguments))
    for attempt in range(RESTARTS + 1):
        status, in_ray = _attempt(arguments, main)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        if code != 1 or not in_ray:
            return code
        local = not os.environ.get("RAY_ADDRESS") and not any(word.startswith("--address") for word in arguments)
        if not local or attempt == RESTARTS:
            break
        _say("the Ray cluster on this machine is lost, and ended the run; another one is started, and the run goes on")
    _say("the Ray cluster is lost, and ended the run [lost_cluster] -- run the same command again: what is committed "
         "is kept")  # fmt: skip
    return LOST


def _attempt(arguments: Sequence[str], main: Callable[[list[str]], int]) -> tuple[int, bool]:
    """How a child that carries the command out has ended, and whether it was using a cluster then."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        os.close(reading)
        os.environ[STATE] = str(writing)
        _die_with(parent)
        sys.exit(main(list(arguments)))
    os.close(writing)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well, which says what it has to
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, frame: os.kill(pid, received))
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    os.set_blocking(reading, False)  # what Ray started may hold the other end open
    try:
        states = os.read(reading, 4096)
    except BlockingIOError:
        states = b""
    os.close(reading)
    return status, states.endswith(b"R")


def _die_with(parent: int) -> None:
    """Have this process killed when its parent is, as if they were one. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _say(line: str) -> None:
    print(f"curate: {line}", file=sys.stderr, flush=True)
