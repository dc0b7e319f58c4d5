"""The local executor: one machine, without a cluster. Threads run `map`; a pool's workers are processes.

Threads suffice for `map` because its functions wait for object stores, hash, or decode, and these release the GIL.

Every worker of a pool is a process, also for small work: a sample that ends its decoder or its scorer must not end the
run. Workers are forked from a server process (`multiprocessing`'s forkserver) that has imported the heavy packages and
done nothing else: `warm` starts it, so that it imports torch while the driver reads the plan, and the driver need not
import torch at all. A worker therefore starts in 30 ms instead of the 4 CPU seconds that torch and open_clip take,
and so does the process that replaces one that died. Forking the driver would be unsafe, since it has threads.

Memory: the packages' pages are shared between the server and its workers.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle

from curation.core.executor import ONE_CPU, CallHandle, Resources, WorkerDiedError, WorkerPlace, portable
from curation.core.parallel import Workers, map_ordered
from curation.core.progress import Tick

T = TypeVar("T")
R = TypeVar("R")

MACHINE = "local"
STARTING = threading.Lock()  # held while a process starts


class LocalExecutor:
    """This machine. `cpus`: cores to use, where not all of them."""

    name = "local"

    def __init__(self, cpus: int | None = None) -> None:
        self._capacity = Resources(cpus or cores(), gpus(), memory())

    def capacity(self) -> Resources:
        return self._capacity

    def reserve(self, share: Resources, count: int) -> None:
        """Do nothing: this machine does not grow."""

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        share: Resources = ONE_CPU,
        tick: Tick | None = None,
    ) -> Iterator[R]:
        """Yield `function(item)` of every item, from threads of this process. See `Executor.map`."""
        threads = concurrency or max(1, self._capacity.fit(share))
        for result in (map_ordered if ordered else map_completed)(function, items, threads):
            if tick is not None:
                tick(1)
            yield result

    def pool(self, factory: Callable[[WorkerPlace], Any], share: Resources) -> LocalPool:
        return LocalPool(factory, share, self._capacity)

    def warm(self, modules: Sequence[str]) -> None:
        """Start the server that workers are forked from, and have it import `modules`. Returns at once.

        Has an effect once in a process: modules that the server lacks are imported by each worker.
        """
        context = _context()
        if context.get_start_method() == "forkserver":
            from multiprocessing.forkserver import ensure_running

            context.set_forkserver_preload(list(modules))
            with _without_main():
                ensure_running()


def map_completed(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` of every item as completed, with `threads` calls under way and none waiting."""
    with Workers(threads, thread_name_prefix="tutelage") as workers:
        running: set[Future[R]] = set()
        try:
            for item in items:
                running.add(workers.submit(function, item))
                while len(running) >= threads:
                    yield _first(running)
            while running:
                yield _first(running)
        finally:
            for future in running:
                future.cancel()


def _first(running: set[Future[R]]) -> R:
    done = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
    running.discard(done)
    return done.result()


@dataclass
class _Worker:
    """One worker and the process that it has now. `environment`: what differs for this worker."""

    place: WorkerPlace
    environment: Mapping[str, str]
    process: ProcessPoolExecutor | None = None


class LocalPool:
    """Workers of a `LocalExecutor`, each a process that is started again with the call after its death."""

    def __init__(self, factory: Callable[[WorkerPlace], Any], share: Resources, capacity: Resources) -> None:
        self._made, self._share, self._capacity = cloudpickle.dumps(factory), share, capacity
        self._folder = tempfile.TemporaryDirectory(prefix="tutelage-workers-")
        self._workers: list[_Worker] = []
        self._calls: dict[Future[Any], _Worker] = {}

    def start(self) -> int:
        number = len(self._workers)
        place = WorkerPlace(MACHINE, Path(self._folder.name, str(number)))
        self._workers.append(_Worker(place, self._environment(number)))
        return number

    def submit(self, worker: int, method: str, *arguments: Any) -> CallHandle:
        of = self._workers[worker]
        for _ in range(2):  # a process may die between two calls
            if of.process is None:
                initial = (self._made, of.place, {**os.environ, **of.environment})
                of.process = ProcessPoolExecutor(1, _context(), initializer=_begin, initargs=initial)
            try:
                with _without_main():
                    future = of.process.submit(_call, method, arguments)
            except BrokenProcessPool:
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
        """Give each worker its GPU: they are dealt out in turn, and a share below 1 puts several on one."""
        if not self._share.gpus or self._capacity.gpus <= 1:
            return {}
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(n) for n in range(int(self._capacity.gpus))]
        first = int(number * self._share.gpus)
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(
                devices[(first + n) % len(devices)] for n in range(max(1, int(self._share.gpus)))
            )
        }


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


def _begin(made: bytes, place: WorkerPlace, environment: Mapping[str, str]) -> None:
    """Prepare a worker's process: it ends with the driver, leaves Ctrl-C to it, and prints to stderr alone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_driver, daemon=True, name="tutelage-parent").start()
    os.environ.clear()  # the server's environment is that of its start
    os.environ.update(environment)
    os.dup2(2, 1)
    global _made
    _made = made, place


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


# --- this machine ---------------------------------------------------------------------------------------------


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without importing torch."""
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    return min(there, sum(1 for name in visible.split(",") if name.strip() and name.strip() != "-1"))


def memory() -> int:
    """Return this machine's memory in bytes, or the limit of this process' container where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


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
