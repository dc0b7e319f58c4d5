"""Threads for waiting on object stores: results in order, a bounded number under way, nothing piled up."""

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

THREADS = 32  # requests under way; a small GET takes about 10 ms from S3, so about 3,000/s
AHEAD = 256 << 20  # bytes of results that are weighed


class NoAnswerError(Exception):
    """A question was not answered in time; its thread still waits."""


def answered(question: Callable[[], T], seconds: float, look: Callable[[], None] = lambda: None) -> T:
    """The answer to a question that may never come, asked on a daemon thread that is given up after `seconds`.

    `look` is called once a second meanwhile, and may raise. Raises what the question raises, or `NoAnswerError`.
    Cost: 60 us for the thread.
    """
    answers: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:  # noqa: BLE001  (raised below, in the thread that waits)
            answers.put((None, error))

    Thread(target=ask, daemon=True, name="tutelage-ask").start()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            answer, error = answers.get(timeout=min(1.0, left))
        except Empty:
            look()
            continue
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]
    raise NoAnswerError(f"no answer for {seconds:.0f} s")


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
