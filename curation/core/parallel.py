"""Threads for requests to object stores: ordered results, a bounded number in flight, bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 32  # requests in flight; a small GET takes about 10 ms from S3, so about 3,000/s
AHEAD = 256 << 20  # bytes of buffered results, where `weigh` reports their size


class NoAnswerError(Exception):
    """A call did not return in time; its thread is still waiting."""


def call_with_timeout(call: Callable[[], T], seconds: float, check: Callable[[], None] = lambda: None) -> T:
    """Return the result of a call that may block for ever; it runs on a daemon thread, abandoned after `seconds`.

    `check` runs once a second meanwhile and may raise. Raises what the call raises, or `NoAnswerError`.
    Cost: 60 us for the thread.
    """
    results: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # noqa: BLE001  (raised below, in the waiting thread)
            results.put((None, error))

    Thread(target=run, daemon=True, name="tutelage-call").start()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            result, error = results.get(timeout=min(1.0, left))
        except Empty:
            check()
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]
    raise NoAnswerError(f"no answer for {seconds:.0f} s")


class Workers(ThreadPoolExecutor):
    """A thread pool for use inside a generator; closing the generator early does not wait for its threads.

    The garbage collector closes a generator that is part of a reference cycle. It can interrupt any thread at any
    point, even one that holds a lock of `threading` while it starts. Joining a thread there would deadlock.
    """

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        left = kind is not None and issubclass(kind, GeneratorExit)
        self.shutdown(wait=not left, cancel_futures=left)


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], threads: int = THREADS, weigh: Callable[[R], int] | None = None
) -> Iterator[R]:
    """Yield `map(function, items)` in order, with `threads` calls in flight and two items per thread drawn ahead.

    `weigh` returns the size of a result in bytes. With it, the number drawn ahead shrinks so that results as large as
    the largest so far fit in `AHEAD` bytes, but never below two: one in use and one in flight.
    """
    ahead, largest = (2 * threads, 0) if weigh is None else (2, 1)
    with Workers(threads, thread_name_prefix="tutelage") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                while len(pending) >= ahead:
                    result = pending.popleft().result()
                    if weigh is not None:
                        largest = max(largest, weigh(result))
                        ahead = max(2, min(2 * threads, AHEAD // largest))
                    yield result
                    del result
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
