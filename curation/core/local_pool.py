"""Pools of the local executor: workers that keep state, each a process that a server forks.

A worker is forked from a server process (`multiprocessing`'s forkserver) that has imported the heavy packages and done
nothing else: `warm` starts it, so that it imports torch while the driver reads the plan, and the driver need not import
torch at all. A worker therefore starts in 30 ms instead of the 4 CPU seconds that torch and open_clip take, and so does
the process that replaces one that died. Forking the driver would be unsafe, since it has threads.

Memory: the packages' pages are shared between the server and its workers.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import cloudpickle

from curation.core.executor import (
    CallHandle,
    Resources,
    StreamFunction,
    WorkerDiedError,
    WorkerPlace,
    gpus_per_task,
    portable,
    tasks_per_gpu,
)

MACHINE = "local"
STARTING = threading.Lock()  # held while a process starts


def warm(modules: Sequence[str]) -> None:
    """Start the server that this process' workers are forked from, and have it import `modules`. Returns at once.

    Has an effect once in a process: modules that the server lacks are imported by each worker.
    """
    context = _context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload(list(modules))
        with _without_main():
            ensure_running()


@dataclass
class _Worker:
    """One worker and the process that it has now. `environment`: what differs for this worker."""

    place: WorkerPlace
    environment: Mapping[str, str]
    process: ProcessPoolExecutor | None = None


class LocalPool:
    """Workers of a `LocalExecutor`, each a process that is started again with the call after its death."""

    def __init__(
        self,
        factory: Callable[[WorkerPlace], Any],
        share: Resources,
        capacity: Resources,
        stream: StreamFunction | None = None,
        folder: Path | None = None,
    ) -> None:
        self._made, self._share, self._capacity, self._stream = cloudpickle.dumps(factory), share, capacity, stream
        self._folder = tempfile.TemporaryDirectory(prefix="tutelage-workers-", dir=folder)
        self._workers: list[_Worker] = []
        self._calls: dict[Future[Any], _Worker] = {}

    def start(self) -> int:
        number = len(self._workers)
        place = WorkerPlace(MACHINE, Path(self._folder.name, str(number)), self._stream, in_turns=True)
        self._workers.append(_Worker(place, self._environment(number)))
        return number

    def submit(self, worker: int, method: str, *arguments: Any) -> CallHandle:
        of = self._workers[worker]
        for _ in range(3):  # a process may die between two calls, and the server that forks it
            if of.process is None:
                initial = (self._made, of.place, {**os.environ, **of.environment})
                of.process = ProcessPoolExecutor(1, _context(), initializer=_begin, initargs=initial)
            try:
                with _without_main():
                    future = of.process.submit(_call, method, arguments)
            except (BrokenProcessPool, EOFError, ConnectionError):  # the last two: the server that forks has died
                of.process = None
                continue
            self._calls[future] = of
            return future
        raise WorkerDiedError("a worker process dies as soon as it starts")

    def read(self, place: WorkerPlace, function: Callable[[Path], Any]) -> CallHandle:
        future: Future[Any] = Future()
        try:
            future.set_result(function(place.path))
        except Exception as error:  # noqa: BLE001  (raised by `result`)
            future.set_exception(error)
        return future

    def wait(self, calls: Sequence[CallHandle], timeout: float | None = None) -> list[CallHandle]:
        done = wait(calls, timeout, FIRST_COMPLETED).done
        return [call for call in calls if call in done]

    def result(self, call: CallHandle) -> Any:
        worker = self._calls.pop(call, None)
        try:
            return call.result()
        except BrokenProcessPool:
            if worker is not None and worker.process is not None:
                worker.process.shutdown(wait=False)
                worker.process = None
            raise WorkerDiedError("a worker process ended during a call") from None

    def forget(self, call: CallHandle) -> None:
        """Drop the result of a call, which may still be under way."""
        self._calls.pop(call, None)

    def close(self) -> None:
        for worker in self._workers:
            if worker.process is not None:
                _end(worker.process)
                worker.process = None
        with suppress(OSError):
            self._folder.cleanup()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _environment(self, number: int) -> dict[str, str]:
        """Give each worker its GPU: as many workers share one as their shares allow, then the next one is dealt out."""
        if not self._share.gpus or self._capacity.gpus <= 1:
            return {}
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(n) for n in range(int(self._capacity.gpus))]
        return {"CUDA_VISIBLE_DEVICES": ",".join(devices_of(number, self._share.gpus, devices))}


def devices_of(worker: int, share: float, devices: Sequence[str]) -> list[str]:
    """Return the GPUs of a worker: workers 0 and 1 with a share of 0.5 have the first one, 2 and 3 the second."""
    width = gpus_per_task(share)
    first = worker // tasks_per_gpu(share) * width
    return [devices[(first + n) % len(devices)] for n in range(width)]


def _end(pool: ProcessPoolExecutor) -> None:
    """Kill the process of an executor. `shutdown` alone would wait for the call that it is in."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


# --- in a worker's process ------------------------------------------------------------------------------------

_made: tuple[bytes, WorkerPlace] | None = None  # what this process makes its object from
_object: Any = None
_folder: Path | None = None  # of the pool, which the driver removes


def _begin(made: bytes, place: WorkerPlace, environment: Mapping[str, str]) -> None:
    """Prepare a worker's process: it ends with the driver, leaves Ctrl-C to it, and prints to stderr alone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_driver, daemon=True, name="tutelage-parent").start()
    os.environ.clear()  # the server's environment is that of its start
    os.environ.update(environment)
    os.dup2(2, 1)
    global _made, _folder
    _made, _folder = (made, place), place.path.parent


def own_folder() -> Path | None:
    """Return the folder of the pool that this process works for, which the driver removes; None in a driver."""
    return _folder


def _end_with_the_driver() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the driver was killed, and nobody else would end this process


def _call(method: str, arguments: Sequence[Any]) -> Any:
    """Call a method of this process' object. The first call makes it: an error in an initializer counts as a death."""
    global _made, _object
    try:
        if _made is None:
            return getattr(_object, method)(*arguments)
        made, place = _made
        _object, _made = cloudpickle.loads(made)(place), None
        result = getattr(_object, method)(*arguments)
        gc.freeze()  # modules and models stay: full collections walked 700,000 objects, a quarter of the time of PNGs
        return result
    except Exception as error:  # noqa: BLE001  (raised, in a form that can be sent)
        raise portable(error) from None


# --- processes ------------------------------------------------------------------------------------------------


def _context() -> Any:
    """Forked from a server on Linux; elsewhere a new interpreter a worker, as forks are unsafe on macOS."""
    context: BaseContext = get_context("forkserver" if sys.platform == "linux" else "spawn")
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the driver's main module.

    What a factory needs of it travels by value (cloudpickle). Otherwise a script that calls `curation.curate` without
    `if __name__ == "__main__"` would run once more in every worker.
    """
    main = vars(sys.modules["__main__"])
    with STARTING:
        kept: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
        main.update(dict.fromkeys(kept))
        try:
            yield
        finally:
            main.update(kept)
