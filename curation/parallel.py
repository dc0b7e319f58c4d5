"""Threads for waiting on object stores: results in order, a bounded number under way, nothing piled up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 32  # requests under way; a small GET takes about 10 ms from S3, so about 3,000/s
AHEAD = 256 << 20  # bytes of results that are weighed


class Workers(ThreadPoolExecutor):
    """Threads for a generator, used in its `with`. One that is left early doesn't wait for them.

    A generator in a reference cycle is closed by the garbage collector, which can interrupt any thread anywhere: also
    one that is being started and holds a lock of `threading`. To join a thread there waits for that lock for ever.
    """

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        left = kind is not None and issubclass(kind, GeneratorExit)
        self.shutdown(wait=not left, cancel_futures=left)


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], threads: int = THREADS, weigh: Callable[[R], int] | None = None
) -> Iterator[R]:
    """`map(function, items)` with `threads` calls under way; draws at most two per thread ahead of the consumer.

    Where `weigh` says how many bytes a result has, fewer: as many as come to `AHEAD` if all are as large as the largest
    so far, but one that comes while another is used.
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
