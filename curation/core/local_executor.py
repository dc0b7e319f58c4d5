"""The local executor: one machine, without a cluster. Threads run `map`; a pool's workers are processes.

Threads suffice for `map` because its functions wait for object stores, hash, or decode, and these release the GIL.
Every worker of a pool is a process, also for small work: a sample that ends its decoder or its scorer must not end the
run (`local_pool`). A worker has further processes for what it decodes ahead (`local_streams`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from curation.core.allocation import use_one_arena
from curation.core.executor import ONE_CPU, Resources, WorkerPlace
from curation.core.local_pool import LocalPool, warm
from curation.core.local_streams import stream
from curation.core.parallel import Workers, map_ordered
from curation.core.progress import Tick

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """This machine. `cpus`: cores to use, where not all of them."""

    name = "local"

    def __init__(self, cpus: int | None = None) -> None:
        use_one_arena()
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
        return LocalPool(factory, share, self._capacity, stream)

    def warm(self, modules: Sequence[str]) -> None:
        """Start the server that workers are forked from, and have it import `modules`. See `local_pool.warm`."""
        warm(modules)


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
