"""An executor without threads and processes: a call runs as it is submitted, so that a test can patch what it calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from curation.core.executor import ONE_CPU, Resources, WorkerPlace
from curation.core.progress import Tick

T = TypeVar("T")
R = TypeVar("R")


class InlineExecutor:
    """One CPU. `folder`: for what workers write at their places."""

    name = "inline"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def capacity(self) -> Resources:
        return Resources(1)

    def reserve(self, share: Resources, count: int) -> None:
        return

    def warm(self, modules: Sequence[str]) -> None:
        """Do nothing: Ray's workers start on their own nodes."""

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ordered: bool = True, concurrency: int | None = None,
        share: Resources = ONE_CPU, tick: Tick | None = None,
    ) -> Iterator[R]:  # fmt: skip
        for item in items:
            yield function(item)
            if tick is not None:
                tick(1)

    def pool(self, factory: Callable[[WorkerPlace], Any], share: Resources) -> InlinePool:
        return InlinePool(factory, self.folder)


class InlinePool:
    def __init__(self, factory: Callable[[WorkerPlace], Any], folder: Path) -> None:
        self.factory, self.folder, self.workers = factory, folder, list[Any]()

    def start(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.workers.append(self.factory(WorkerPlace("here", self.folder / str(len(self.workers)))))
        return len(self.workers) - 1

    def submit(self, worker: int, method: str, *arguments: Any) -> Future[Any]:
        return _ended(getattr(self.workers[worker], method), *arguments)

    def read(self, place: WorkerPlace, function: Callable[[Path], Any]) -> Future[Any]:
        return _ended(function, place.path)

    def wait(self, calls: Sequence[Future[Any]], timeout: float | None = None) -> list[Future[Any]]:
        return list(calls)

    def result(self, call: Future[Any]) -> Any:
        return call.result()

    def close(self) -> None:
        return

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *error: object) -> None:
        return


def _ended(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:  # noqa: BLE001  (raised by `result`)
        future.set_exception(error)
    return future
