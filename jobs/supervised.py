"""The command in a process of its own, which Ray may end without a word, and the one that sees it and goes on.

A driver that talks to a raylet or a GCS that is gone is ended by Ray's C++ code (`_Exit(1)`: "The connection to the
plasma store is failed. Terminate the process."), at any moment and before Python can say a thing. So commands that use
Ray are carried out by a fork, made before anything heavy is imported (1 ms); what started it waits for its end, hands
its exit code on, and starts it again where Ray ended it: commands find what they have committed.
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

STATE = "CURATE_STATE_FD"  # where actors.local_cluster notes that a cluster is in use (R) and that it is not (E)
RAY = ("run", "verify", "repair", "learn", "evaluate")  # commands that use Ray
RESTARTS = 3
LOST = 3  # exit code of `curation.core.errors` for what a cluster does
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TWICE_SECONDS = 2.0  # a terminal's Ctrl-C reaches the child directly and through its parent, and is one interrupt


def supervised(arguments: Sequence[str], main: Callable[[list[str]], int]) -> int:
    """The exit code of `main(arguments)`, in another process where the command may use Ray."""
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
            text = "the Ray cluster on this machine is lost, and ended the run; another one is started"
            print(f"curate: {text}, and the run goes on", file=sys.stderr, flush=True)
    fix = "run the same command again: what is committed is kept"
    _say("lost_cluster", "the Ray cluster is lost, and ended the run", fix, as_json)
    return LOST


def _killed(number: int, as_json: bool) -> int:
    """End as the child did, by the same signal, so that a shell or a scheduler sees it; the exit code where this
    process can't: it would leave no line of SIGKILL, and as PID 1 of a container it is not ended by its own signals."""
    if number == signal.SIGKILL:
        fix = "run the same command again: what is committed is kept; give it more memory if that was too little"
        _say("killed", "the process was killed (SIGKILL), most likely because memory ran out", fix, as_json)
        return 128 + number
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _attempt(arguments: Sequence[str], main: Callable[[list[str]], int]) -> tuple[int, bool]:
    """How a child that carries the command out has ended, and whether it was using a cluster then."""
    reading, writing = os.pipe()
    parent = os.getpid()
    before = {number: signal.getsignal(number) for number in FORWARDED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # one that comes now waits until there is a handler
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
    os.set_blocking(reading, False)  # what Ray started may hold the other end open
    try:
        states = os.read(reading, 4096)
    except BlockingIOError:
        states = b""
    os.close(reading)
    return status, states.endswith(b"R")


def _forward(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def _die_with(parent: int) -> None:
    """Have this process killed when its parent is, as if they were one. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _once() -> Callable[[int, FrameType | None], None]:
    """A handler of SIGINT that raises `KeyboardInterrupt`, once for all that come within `TWICE_SECONDS`: a second
    one would break the orderly end of the first."""
    last = -TWICE_SECONDS

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TWICE_SECONDS:
            last = now
            signal.default_int_handler(number, frame)

    return interrupt


def _say(code: str, text: str, fix: str, as_json: bool) -> None:
    """An error as `jobs.cli` reports it: one line for a person, one JSON object for a machine."""
    line = json.dumps({"error": code, "message": text, "fix": fix}) if as_json else f"curate: {text} [{code}] -- {fix}"
    print(line, file=sys.stderr, flush=True)
