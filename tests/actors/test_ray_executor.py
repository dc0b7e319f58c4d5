"""Ray's errors become those of the executor protocol. tests/contracts checks the contract of both engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from actors import ray_executor
from actors.ray_cluster import ClusterError
from actors.ray_executor import RayPool, stream
from curation.core.errors import UserError
from curation.core.executor import Resources, WorkerDiedError, WorkerPlace


class _Streams:
    """Stands for streaming tasks: `answers` are what their references give, a value or an error each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
        self.answers, self.begun = answers, list[str]()
        monkeypatch.setattr(ray, "remote", lambda **options: lambda function: self)
        monkeypatch.setattr(ray_executor.waiting, "get", self.get)

    def remote(self, function: Any, item: str) -> Iterator[str]:
        self.begun.append(item)
        return iter([item])

    def get(self, ref: str) -> Any:
        value = self.answers[ref]
        if isinstance(value, Exception):
            raise value
        return value


@pytest.mark.parametrize(
    "death",
    [
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.RayTaskError("decode", "", MemoryError()).as_instanceof_cause(),
    ],
)
def test_a_task_that_dies_or_lacks_memory_is_a_death(death: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    defect = ray.exceptions.RayTaskError("decode", "", KeyError("a defect")).as_instanceof_cause()
    _Streams(monkeypatch, {"a": 1, "b": death, "c": defect, "d": 4})
    first, second, third, fourth = stream(iter, "abcd", 1, 0.5)
    assert list(first) == [1] and list(fourth) == [4]
    with pytest.raises(WorkerDiedError):
        list(second)
    with pytest.raises(KeyError):
        list(third)


def test_few_tasks_begin_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = _Streams(monkeypatch, dict.fromkeys("abcdef", 0))
    found = stream(iter, "abcdef", 2, 1)
    next(found)
    assert streams.begun == ["a", "b", "c"]
    next(found)
    assert streams.begun == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "memory", "elsewhere"),
    [
        ("The actor died unexpectedly", False, False),
        ("the node was running low on memory and the task's memory was freed", True, False),
        ("its node has died", False, True),
        ("the owner has died", False, True),
        ("The actor is temporarily unavailable: IOError: The actor is restarting.", False, True),
    ],
)
def test_a_death_says_whether_memory_or_the_machine_is_to_blame(
    text: str, memory: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(ref: str) -> Any:
        raise _Died(text)

    monkeypatch.setattr(ray_executor.waiting, "get", get)
    monkeypatch.setattr(ray_executor.waiting, "check", lambda: None)
    with pytest.raises(WorkerDiedError) as caught:
        _pool().result("call")
    assert (caught.value.memory, caught.value.elsewhere) == (memory, elsewhere)


class _Died(ray.exceptions.RayActorError):
    """Ray's error, with a text of our choice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


def _pool() -> RayPool:
    return RayPool(_no_object, Resources())


def _no_object(place: WorkerPlace) -> None:
    return


def test_errors_of_calls_and_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [
        ray.exceptions.ActorUnschedulableError("no such node"),
        ray.exceptions.RayTaskError("call", "", UserError("no", fix="yes")).as_instanceof_cause(),
    ]

    def get(ref: str) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(ray_executor.waiting, "get", get)
    monkeypatch.setattr(ray_executor.waiting, "check", lambda: None)
    pool = _pool()
    with pytest.raises(ClusterError, match="no node of the cluster can hold a worker"):
        pool.result("call")
    with pytest.raises(UserError, match="no") as caught:
        pool.result("call")
    assert caught.value.fix == "yes"
    errors.append(ray.exceptions.TaskUnschedulableError("its node is gone"))
    pool._reads.add("read")
    with pytest.raises(WorkerDiedError) as died:
        pool.result("read")
    assert died.value.elsewhere
