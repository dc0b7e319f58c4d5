"""The executor protocol: what the pipeline asks of the engine that runs it, and of nothing else.

Two engines implement it: `curation.core.local_executor` (this process, its threads and worker processes) and
`actors.ray_executor` (a Ray cluster). Algorithms take an `Executor` as a value and give the same bytes on both.

- `map` runs a function that keeps no state on many items: bounded, in order or as completed.
- `pool` starts workers that keep state, such as loaded models. A worker lives in a process of its own, since a hostile
  sample may end that process; the pool reports the death and starts the process again.

Cost: an engine holds at most `2 * concurrency` items and results of a `map`, so that neither piles up in the driver.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curation.core.errors import TutelageError
from curation.core.progress import Tick

T = TypeVar("T")
R = TypeVar("R")

CallHandle = Any  # a handle of one submitted call: hashable, and of use to the pool that made it alone


@dataclass(frozen=True)
class Resources:
    """What one task or worker occupies, or what an engine has: CPU cores, GPUs (fractions count), bytes of memory.

    `memory` 0 means "not stated".
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0

    def fit(self, share: Resources) -> int:
        """Return how many tasks that occupy `share` fit into these resources at once: 0 where none does.

        No task has its share on parts of several GPUs: two GPUs have room for four tasks with 0.4 of one, not for five.
        """
        pairs = ((self.cpus, share.cpus), (self.memory, share.memory))
        room = [have / want for have, want in pairs if want]
        if share.gpus:
            room.append(int(self.gpus + 1e-9) * tasks_per_gpu(share.gpus) / gpus_per_task(share.gpus))
        return int(min(room) + 1e-9) if room else 1


def tasks_per_gpu(share: float) -> int:
    """Return how many tasks with this share of a GPU run on one: 3 for 0.3, 1 for shares above a half."""
    return max(1, int(1 / share + 1e-9))


def gpus_per_task(share: float) -> int:
    """Return how many whole GPUs a task with this share sees: at least one."""
    return max(1, ceil(share - 1e-9))


ONE_CPU = Resources()


class WorkerDiedError(TutelageError):
    """The process of a worker ended during a call: it crashed, exited, or was killed.

    The pool starts it again by itself, with a fresh state.
    """

    code = "worker_died"
    exit_code = 4

    def __init__(self, message: str, *, memory: bool = False, elsewhere: bool = False, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.memory = memory  # the engine ended it because its machine was short of memory
        self.elsewhere = elsewhere  # its machine is gone or it has not started: nothing that it worked on is to blame


StreamFunction = Callable[..., Iterator[Iterator[Any]]]


@dataclass(frozen=True)
class WorkerPlace:
    """Where a worker runs. Its factory receives it.

    machine: names the machine, for `WorkerPool.read`. path: a file name on that machine's disk that belongs to this
    worker, the same for each process that it has there; what a process writes there outlives it. stream: runs a
    generator function on other CPUs, or is None where the engine has none to offer. `stream(function, items, ahead,
    cpus)` yields one iterator an item, in order, with at most `ahead` items begun before the consumer reaches them.
    in_turns: whether an iterator holds few results that were not taken, so that only a consumer who reads several of
    them in turns keeps several CPUs busy; otherwise each item is computed whole, ahead of the consumer.
    """

    machine: str
    path: Path
    stream: StreamFunction | None = None
    in_turns: bool = False


class WorkerPool(Protocol):
    """Workers that keep state. A worker is a number; a call is a handle. Used from one thread, within `with`."""

    def start(self) -> int:
        """Start a worker, without waiting for it, and return its number."""

    def submit(self, worker: int, method: str, *arguments: Any) -> CallHandle:
        """Call a method of the worker's object. Calls of one worker run one after the other, in order."""

    def read(self, place: WorkerPlace, function: Callable[[Path], Any]) -> CallHandle:
        """Call `function(place.path)` on the machine of a worker, whether the worker lives or not."""

    def wait(self, calls: Sequence[CallHandle], timeout: float | None = None) -> list[CallHandle]:
        """Wait until at least one of the calls has ended, or for `timeout` seconds; return those that have ended."""

    def result(self, call: CallHandle) -> Any:
        """Return what an ended call returned, or raise what it raised; `WorkerDiedError` where its process ended."""

    def close(self) -> None:
        """End all workers at once, whatever they do."""

    def __enter__(self) -> WorkerPool: ...

    def __exit__(self, *error: object) -> None: ...


class Executor(Protocol):
    """An engine. Its name is what `--executor` calls it."""

    name: str

    def capacity(self) -> Resources:
        """Return what there is now, in use or not. A cluster that scales may have more later."""

    def reserve(self, share: Resources, count: int) -> None:
        """Ask an engine that scales to make room for `count` workers of this size. Does nothing elsewhere."""

    def warm(self, modules: Sequence[str]) -> None:
        """Begin to import what workers will need, without waiting for it. Does nothing where that saves no time."""

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
        """Yield `function(item)` of every item.

        ordered: in the order of the items, else as completed. concurrency: calls under way at most; None: as many as
        fit. share: what one call occupies. tick: called with 1 as each result is yielded. Items are drawn when there
        is room. An exception of the function ends the map; that and closing the iterator cancel what has not begun.
        """

    def pool(self, factory: Callable[[WorkerPlace], Any], share: Resources) -> WorkerPool:
        """Return a pool without workers. `factory` makes a worker's object, in its process; `share`: of each worker."""


def portable(error: Exception) -> Exception:
    """Return the error, or a `RuntimeError` with its text where it can't be sent to another process.

    An engine would report an error that it can't send as a death of the worker. `copy` makes an object as unpickling
    does, so it fails where the class's constructor wants other arguments than the error kept.
    """
    try:
        pickle.dumps(error)
        copy.copy(error)
    except Exception:  # noqa: BLE001  (the error's own code)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
