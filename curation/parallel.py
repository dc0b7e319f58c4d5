"""Threads for waiting on object stores: results in order, a bounded number under way, nothing piled up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 32  # requests under way; a small GET takes about 10 ms from S3, so about 3,000/s


def map_ordered(function: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> Iterator[R]:
    """`map(function, items)` with `threads` calls under way; draws at most two per thread ahead of the consumer."""
    with ThreadPoolExecutor(threads, thread_name_prefix="tutelage") as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
