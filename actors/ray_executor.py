"""The Ray executor: maps as Ray tasks, pools as actors, on the cluster that this process is connected to.

Ray does the scheduling, the placement and the restarts. Every wait goes through `actors.waiting`, which notices a lost
cluster. Errors of Ray become `WorkerDiedError`, `ClusterError` or `LostClusterError`; errors of the function itself are
raised unchanged.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import waiting
from actors.local_cluster import line_of
from actors.ray_cluster import ClusterError, cpus, explained, gpus
from curation.core.executor import ONE_CPU, CallHandle, Resources, WorkerDiedError, WorkerPlace, portable
from curation.core.progress import Tick

T = TypeVar("T")
R = TypeVar("R")

TASK_RETRIES = 5  # attempts after the first for a task whose process dies


class RayExecutor:
    """An executor on the cluster that this process is connected to (`actors.ray_cluster.ray_cluster`)."""

    name = "ray"

    def capacity(self) -> Resources:
        return Resources(cpus(), gpus())

    def reserve(self, share: Resources, count: int) -> None:
        """Ask the autoscaler for room. Has no effect on a cluster without one."""
        bundle = {"CPU": share.cpus, **({"GPU": share.gpus} if share.gpus else {})}
        request_resources(bundles=[bundle] * count)

    def warm(self, modules: Sequence[str]) -> None:
        """Do nothing: Ray's workers start on their own nodes."""

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
        """Yield `function(item)` for every item, computed by one task each. See `Executor.map`.

        Twice `concurrency` tasks are submitted at a time, so that a worker always finds a next task.
        """
        width = 2 * (concurrency or max(1, self.capacity().fit(share)))
        task: Any = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=TASK_RETRIES)(_apply)
        shared, running = ray.put(function), deque[Any]()
        try:
            for item in items:
                running.append(task.remote(shared, item))
                while len(running) >= width:
                    yield _next(running, ordered, tick)
            while running:
                yield _next(running, ordered, tick)
        except waiting.LostClusterError:
            running.clear()  # a lost cluster answers no cancellation
            raise
        finally:
            for ref in running:
                ray.cancel(ref)

    def pool(self, factory: Callable[[WorkerPlace], Any], share: Resources) -> RayPool:
        return RayPool(factory, share)


def _apply(function: Callable[[T], R], item: T) -> R:
    return function(item)


def _next(running: deque[Any], ordered: bool, tick: Tick | None) -> Any:
    """Wait for one task, take it out of `running`, and return its result; raise its own error, not Ray's wrapper."""
    try:
        ref = running[0] if ordered else waiting.wait(list(running))[0][0]
        result = waiting.get(ref)
    except ray.exceptions.RayError as error:
        raise explained(error) from None
    running.remove(ref)
    if tick is not None:
        tick(1)
    return result


class RayPool:
    """A pool of actors. Ray restarts an actor whose process dies, on any node, with a fresh state."""

    def __init__(self, factory: Callable[[WorkerPlace], Any], share: Resources) -> None:
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus or None, "max_restarts": -1, "max_task_retries": 0}
        self._remote = ray.remote(PoolActor).options(**options)
        self._factory = factory
        self._actors: list[Any] = []
        self._reads: set[Any] = set()

    def start(self) -> int:
        self._actors.append(self._remote.remote(self._factory))
        return len(self._actors) - 1

    def submit(self, worker: int, method: str, *arguments: Any) -> CallHandle:
        return self._actors[worker].call.remote(method, *arguments)

    def read(self, place: WorkerPlace, function: Callable[[Path], Any]) -> CallHandle:
        there = NodeAffinitySchedulingStrategy(place.machine, soft=False)
        task: Any = ray.remote(_apply).options(num_cpus=0, scheduling_strategy=there)
        ref = task.remote(function, place.path)
        self._reads.add(ref)
        return ref

    def wait(self, calls: Sequence[CallHandle], timeout: float | None = None) -> list[CallHandle]:
        return waiting.wait(calls, timeout=timeout)[0]

    def result(self, call: CallHandle) -> Any:
        read = call in self._reads
        self._reads.discard(call)
        try:
            return waiting.get(call)
        except ray.exceptions.ActorUnschedulableError as error:
            fix = "lower compute.num_cpus and compute.num_gpus, or add such a node"
            raise ClusterError(f"no node of the cluster can hold a worker: {line_of(error)}", fix=fix) from None
        except ray.exceptions.RayActorError as error:
            waiting.check()  # a broken cluster kills its actors, which are not at fault
            raise _death(error) from None
        except ray.exceptions.RayError as error:
            if not read:
                raise explained(error) from None
            waiting.check()
            raise WorkerDiedError(f"a machine was lost: {line_of(error)}", elsewhere=True) from None

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _death(error: ray.exceptions.RayActorError) -> Exception:
    """Return the pool's error for an actor's death. An actor whose class can't be imported never starts."""
    if error.actor_init_failed:
        return ClusterError(f"a worker can't be started: {line_of(error)}", fix="--debug shows where")
    text = str(error)
    memory = "memory" in text and ("low on memory" in text or "OutOfMemory" in text)
    # "is restarting": the call never reached a process, because Ray is still handling the previous death.
    elsewhere = any(why in text for why in ("its node has died", "owner has died", "actor is restarting"))
    return WorkerDiedError(f"an actor died: {line_of(error)}", memory=memory, elsewhere=elsewhere)


class PoolActor:
    """Holds a worker's object. The first call creates it, since Ray reports an error in a constructor as a death."""

    def __init__(self, factory: Callable[[WorkerPlace], Any]) -> None:
        self._factory, self._object = factory, None

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            if self._object is not None:
                return getattr(self._object, method)(*arguments)
            self._object = self._factory(_place())
            result = getattr(self._object, method)(*arguments)
            gc.freeze()  # see `local_pool._call`
            return result
        except Exception as error:  # noqa: BLE001  (raised again in a form that can be pickled)
            raise portable(error) from None


def _place() -> WorkerPlace:
    """Return this actor's node, and a path there that survives its restarts. Ray deletes the file with the session."""
    context = ray.get_runtime_context()
    node: Any = ray._private.worker._global_node
    path = Path(node.get_session_dir_path(), f"tutelage-{context.get_actor_id()}")
    return WorkerPlace(context.get_node_id(), path, stream)


def stream(
    function: Callable[[T], Iterator[R]], items: Iterable[T], ahead: int, num_cpus: float
) -> Iterator[Iterator[R]]:
    """Run a generator function on every item as streaming tasks. See `WorkerPlace.stream`.

    An iterator raises `WorkerDiedError` if its task's process died or ran out of memory.
    """
    task: Any = ray.remote(num_cpus=num_cpus, num_returns="streaming", max_retries=1)(_generate)
    running: deque[Any] = deque()
    for item in items:
        running.append(task.remote(function, item))
        if len(running) > ahead:
            yield _streamed(running.popleft())
    while running:
        yield _streamed(running.popleft())


def _generate(function: Callable[[T], Iterator[R]], item: T) -> Iterator[R]:
    yield from function(item)


def _streamed(refs: Any) -> Iterator[Any]:
    try:
        for ref in refs:
            yield waiting.get(ref)
    except ray.exceptions.RayError as error:
        if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error.cause, MemoryError):
            raise
        raise WorkerDiedError(f"a task died: {line_of(error)}") from None
