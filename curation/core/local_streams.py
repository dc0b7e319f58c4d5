"""Streams of the local executor: generators in processes of a worker's own, such as the decoders of a GPU's worker.

The processes are a pool of the worker, forked from a second server (1 CPU second a worker, once); they are reused from
one stream to the next and end with the worker. Each holds at most `DEPTH` results that the worker has not taken.

Cost: a result travels through a pipe, 0.1 ms for a table of 256 pictures of 64 px and 30 ms for 224 px.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import cloudpickle

from curation.core import local_pool
from curation.core.executor import ONE_CPU, CallHandle, WorkerDiedError, WorkerPlace
from curation.core.local_pool import LocalPool

T = TypeVar("T")
R = TypeVar("R")

DEPTH = 2  # results of a stream that are computed before they are taken: one waits, one is under way


class _Generation:
    """The object of a streaming process: one generator at a time, of which each call returns the next result."""

    def __init__(self, place: WorkerPlace) -> None:
        self._results: Iterator[Any] | None = None

    def begin(self, function: bytes, item: Any) -> None:
        self._results = iter(cloudpickle.loads(function)(item))

    def advance(self) -> tuple[Any, ...]:
        """Return a tuple of the next result; an empty one at the end."""
        if self._results is None:  # the process that began has died between two calls
            raise WorkerDiedError("a process ended between two results")
        return tuple(islice(self._results, 1))


class _Streams:
    """The streaming processes of this process, which all of its streams share. `free`: those without a generator."""

    def __init__(self) -> None:
        self.pool = LocalPool(_Generation, ONE_CPU, ONE_CPU, folder=local_pool.own_folder())
        self.free: deque[int] = deque()


_streams: _Streams | None = None


def stream(
    function: Callable[[T], Iterator[R]], items: Iterable[T], ahead: int, num_cpus: float
) -> Iterator[Iterator[R]]:
    """Run a generator function on every item, each in a process of its own. See `WorkerPlace.stream`.

    An item begins with its iterator, so a caller who wants several processes at work holds as many iterators and reads
    them in turns. `ahead` and `num_cpus` have no effect. An iterator raises `WorkerDiedError` where its process died or
    ran out of memory.
    """
    global _streams
    if _streams is None:
        local_pool.warm([getattr(function, "func", function).__module__])  # a `partial` has no module of its own
        _streams = _Streams()
    made = cloudpickle.dumps(function)
    for item in items:
        yield _begun(_streams, made, item)


def _begun(streams: _Streams, function: bytes, item: Any) -> Iterator[Any]:
    """Begin a generator at once, and return an iterator over its results."""
    worker = streams.free.popleft() if streams.free else streams.pool.start()
    calls = deque([streams.pool.submit(worker, "begin", function, item)])
    calls.extend(streams.pool.submit(worker, "advance") for _ in range(DEPTH))
    return _taken(streams, worker, calls)


def _taken(streams: _Streams, worker: int, calls: deque[CallHandle]) -> Iterator[Any]:
    pool = streams.pool
    try:
        pool.result(calls.popleft())
        while results := pool.result(calls.popleft()):
            calls.append(pool.submit(worker, "advance"))
            yield results[0]
    except MemoryError:
        raise WorkerDiedError("a process lacks memory") from None
    finally:
        for call in calls:
            pool.forget(call)
        streams.free.append(worker)
