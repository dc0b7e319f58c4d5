"""The contract of executors: bounded maps, and workers that keep state, die and come back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from curation.core.errors import UserError
from curation.core.executor import Executor, Resources, WorkerDiedError, WorkerPlace, WorkerPool
from curation.core.local_executor import LocalExecutor, cores
from curation.core.local_pool import devices_of
from curation.core.local_streams import DEPTH


class Counter:
    """A worker that counts its calls."""

    def __init__(self, place: WorkerPlace) -> None:
        self.place, self.calls = place, 0

    def count(self, most: int = 100) -> int:
        self.calls += 1
        if self.calls > most:
            os._exit(1)
        return self.calls

    def note(self, text: str) -> WorkerPlace:
        self.place.path.write_text(text)
        return self.place

    def fail(self, fix: str) -> None:
        raise UserError("no", fix=fix)

    def fail_oddly(self) -> None:
        raise OddError(1, 2)

    def sleep(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)


class Streaming:
    """A worker that reads generators which run on other CPUs."""

    def __init__(self, place: WorkerPlace) -> None:
        self.place = place

    def read(self, function: Any, items: list[Any], ahead: int = 1, width: int = 1) -> list[list[Any]]:
        """The results of every item; an error's name after those that came before it. `width`: read at a time."""
        assert self.place.stream is not None
        found, opened = [], []
        for results in self.place.stream(function, items, ahead, 0.25):
            opened.append((results, []))
            found.append(opened[-1][1])
            if len(opened) == width:
                _drain(opened)
        _drain(opened)
        return found

    def leave(self, function: Any, item: Any) -> list[Any]:
        """The first result, of an iterator that is then dropped."""
        assert self.place.stream is not None
        (results,) = self.place.stream(function, [item], 1, 0.25)
        return [next(results)]

    def paced(self, folder: Path, count: int) -> list[int]:
        """How many results exist, as each of `count` is taken."""
        assert self.place.stream is not None
        (results,) = self.place.stream(write_numbers, [(folder, count)], 1, 0.25)
        return [len(list(folder.iterdir())) - taken for taken, _ in enumerate(results, 1)]

    def processes(self, items: list[int]) -> tuple[int, list[int]]:
        """This process, and those of a stream."""
        return os.getpid(), [pid for (pid,) in self.read(own_process, items)]


def _drain(opened: list[tuple[Iterator[Any], list[Any]]]) -> None:
    """Read the iterators in turns, to their ends."""
    while opened:
        for results, into in list(opened):
            try:
                into.append(next(results))
            except StopIteration:
                opened.remove((results, into))
            except Exception as error:  # noqa: BLE001
                into.append("UserError" if isinstance(error, UserError) else type(error).__name__)  # or Ray's wrapper
                opened.remove((results, into))


def numbers_below(item: int) -> Iterator[int]:
    yield from (number for number in range(item))  # Ray sends to what it iterates, which a range does not take


def dies_in_three(item: int) -> Iterator[int]:
    for number in range(item):
        if item == 3 and number == 1:
            os._exit(1)
        yield number


def fails_in_three(item: int) -> Iterator[int]:
    yield 0
    if item == 3:
        raise UserError("three")
    if item == 4:
        raise MemoryError


def write_numbers(where: tuple[Path, int]) -> Iterator[int]:
    folder, count = where
    for number in range(count):
        (folder / str(number)).touch()
        yield number


def own_process(item: int) -> Iterator[int]:
    yield os.getpid()


class OddError(Exception):
    """An error that does not survive a copy."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Refusing:
    """A worker that can't be made."""

    def __init__(self, place: WorkerPlace) -> None:
        raise UserError("no such model")

    def count(self) -> int:
        return 0


def double(item: int) -> int:
    return 2 * item


def slow_first(item: int) -> int:
    time.sleep(1.0 if item == 0 else 0.0)
    return item


def refuse_three(item: int) -> int:
    if item == 3:
        raise UserError("three", fix="another number")
    return item


def read_note(path: Path) -> str:
    return path.read_text()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "local":
        yield LocalExecutor()
        return
    from actors.ray_executor import RayExecutor

    request.getfixturevalue("ray_cluster")
    yield RayExecutor()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    from actors.ray_cluster import ray_cluster

    with ray_cluster():
        yield


def answer(pool: Any, worker: int, method: str, *arguments: Any) -> Any:
    call = pool.submit(worker, method, *arguments)
    assert pool.wait([call]) == [call]
    return pool.result(call)


# --- map ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2, 8, None])
def test_map_gives_every_result_once(executor: Executor, concurrency: int | None) -> None:
    expected = [2 * n for n in range(40)]
    assert list(executor.map(double, range(40), concurrency=concurrency)) == expected
    assert sorted(executor.map(double, range(40), ordered=False, concurrency=concurrency)) == expected


def test_map_is_in_order_or_as_completed(executor: Executor) -> None:
    assert next(executor.map(slow_first, range(4), concurrency=2)) == 0
    assert next(executor.map(slow_first, range(4), ordered=False, concurrency=2)) != 0


@pytest.mark.parametrize("ordered", [True, False])
def test_map_draws_few_items_ahead(executor: Executor, ordered: bool) -> None:
    drawn = []
    items = (drawn.append(n) or n for n in range(100))  # type: ignore[func-returns-value]
    results = executor.map(double, items, ordered=ordered, concurrency=2)
    for taken in range(1, 11):
        next(results)
        assert len(drawn) <= taken + 4
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) <= 14


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_of_the_function_ends_the_map(executor: Executor, ordered: bool) -> None:
    drawn = []
    items = (drawn.append(n) or n for n in range(1000))  # type: ignore[func-returns-value]
    with pytest.raises(UserError, match="three") as caught:
        list(executor.map(refuse_three, items, ordered=ordered, concurrency=2))
    assert caught.value.fix == "another number"
    assert len(drawn) < 20


def test_map_reports_progress(executor: Executor) -> None:
    ticks: list[int] = []
    for taken, _ in enumerate(executor.map(double, range(5), tick=ticks.append), 1):
        assert len(ticks) == taken
    assert ticks == [1] * 5


def test_map_of_nothing(executor: Executor) -> None:
    assert list(executor.map(double, [])) == [] == list(executor.map(double, [], ordered=False))


# --- pools ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_keep_their_state_apart(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        first, second = pool.start(), pool.start()
        assert [answer(pool, first, "count") for _ in range(3)] == [1, 2, 3]
        assert answer(pool, second, "count") == 1


def test_calls_of_one_worker_run_in_order(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        calls = [pool.submit(worker, "count") for _ in range(5)]
        left = list(calls)
        while left:
            left = [call for call in left if call not in pool.wait(left)]
        assert [pool.result(call) for call in calls] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_worker_that_dies_starts_again_without_its_state(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        dying, other = pool.start(), pool.start()
        assert answer(pool, dying, "count", 1) == answer(pool, other, "count") == 1
        with pytest.raises(WorkerDiedError) as caught:
            answer(pool, dying, "count", 1)
        assert not caught.value.memory and not caught.value.elsewhere
        assert _once_restarted(pool, dying, "count") == 1
        assert answer(pool, other, "count") == 2


def test_a_note_outlives_the_process_that_wrote_it(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        place = answer(pool, worker, "note", "in work: 7")
        with pytest.raises(WorkerDiedError):
            answer(pool, worker, "count", 0)
        call = pool.read(place, read_note)
        assert pool.wait([call]) == [call] and pool.result(call) == "in work: 7"
        assert _once_restarted(pool, worker, "note", "again").path == place.path


def _once_restarted(pool: WorkerPool, worker: int, method: str, *arguments: Any) -> Any:
    """The answer of a worker that died. A call that meets Ray's restart ends as a death elsewhere, and is repeated."""
    for _ in range(100):
        try:
            return answer(pool, worker, method, *arguments)
        except WorkerDiedError as error:
            assert error.elsewhere
            time.sleep(0.1)
    raise AssertionError("the worker does not start again")


def test_errors_of_a_worker_arrive_whole(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        with pytest.raises(UserError, match="no") as caught:
            answer(pool, worker, "fail", "try this")
        assert caught.value.fix == "try this"
        with pytest.raises(Exception, match="1 and 2"):
            answer(pool, worker, "fail_oddly")
        assert answer(pool, worker, "count") == 1, "an error is no death"


def test_waiting_may_end_without_a_call(executor: Executor) -> None:
    with executor.pool(Counter, Resources(cpus=0.5)) as pool:
        call = pool.submit(pool.start(), "sleep", 300)
        assert pool.wait([call], timeout=0) == []


# --- streams: generators on other CPUs --------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3])
def test_a_stream_gives_every_result_in_order(executor: Executor, width: int) -> None:
    with executor.pool(Streaming, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        items = [2, 0, 5, 1, 300]
        assert answer(pool, worker, "read", numbers_below, items, 2, width) == [list(range(item)) for item in items]
        assert answer(pool, worker, "read", numbers_below, [], 2, width) == []


def test_a_generator_whose_process_dies_ends_its_own_iterator_alone(executor: Executor) -> None:
    with executor.pool(Streaming, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        first, second, third, fourth = answer(pool, worker, "read", dies_in_three, [2, 3, 4, 3], 1, 2)
        assert (first, third) == ([0, 1], [0, 1, 2, 3])
        assert second[-1] == fourth[-1] == "WorkerDiedError" and set(second[:-1]) <= {0}
        assert answer(pool, worker, "read", numbers_below, [3]) == [[0, 1, 2]], "a process takes the dead one's place"


def test_errors_of_a_generator_follow_its_results(executor: Executor) -> None:
    with executor.pool(Streaming, Resources(cpus=0.5)) as pool:
        found = answer(pool, pool.start(), "read", fails_in_three, [2, 3, 4])
        assert found == [[0], [0, "UserError"], [0, "WorkerDiedError"]], "too little memory counts as a death"


def test_an_iterator_that_is_dropped_leaves_nothing_behind(executor: Executor) -> None:
    with executor.pool(Streaming, Resources(cpus=0.5)) as pool:
        worker = pool.start()
        assert answer(pool, worker, "leave", numbers_below, 500) == [0]
        assert answer(pool, worker, "read", numbers_below, [4, 2]) == [[0, 1, 2, 3], [0, 1]]


# --- the local executor ---------------------------------------------------------------------------------------


def test_a_worker_that_cannot_be_made_says_why() -> None:
    with LocalExecutor().pool(Refusing, Resources()) as pool, pytest.raises(UserError, match="no such model"):
        answer(pool, pool.start(), "count")


def test_a_worker_sees_the_environment_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalExecutor().pool(Counter, Resources()) as pool:
        answer(pool, pool.start(), "count")  # the server has its environment by now
        monkeypatch.setenv("TUTELAGE_TEST", "seen")
        assert answer(pool, pool.start(), "variable", "TUTELAGE_TEST") == "seen"


def test_closing_ends_a_worker_in_the_midst_of_a_call() -> None:
    pool = LocalExecutor().pool(Counter, Resources())
    worker = pool.start()
    pid = answer(pool, worker, "sleep", 0)
    pool.submit(worker, "sleep", 300)
    closing = threading.Thread(target=pool.close)
    closing.start()
    closing.join(60)
    assert not closing.is_alive() and gone(pid)


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    """The driver's script has no guard around its main part, and yet runs once."""
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal
        from contracts.test_executors import Counter, answer
        from curation.core.executor import Resources
        from curation.core.local_executor import LocalExecutor

        pool = LocalExecutor().pool(Counter, Resources())
        worker = pool.start()
        print(answer(pool, worker, "sleep", 0), flush=True)
        pool.submit(worker, "sleep", 300)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, env=environment, timeout=120, check=False)
    (pid,) = map(int, done.stdout.split())
    assert gone(pid)


def gone(pid: int, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_local_stream_computes_few_results_before_they_are_taken(tmp_path: Path) -> None:
    with LocalExecutor().pool(Streaming, Resources()) as pool:
        ahead = answer(pool, pool.start(), "paced", tmp_path, 40)
    assert len(ahead) == 40 and max(ahead) <= DEPTH


def test_processes_of_a_local_stream_are_reused_and_end_with_their_worker() -> None:
    with LocalExecutor().pool(Streaming, Resources()) as pool:
        own, others = answer(pool, pool.start(), "processes", [0, 1, 2])
        assert len(set(others)) == 1 and own not in others
    assert gone(own) and gone(others[0])


@pytest.mark.parametrize(
    ("share", "devices", "found"),
    [
        (1, "01", ["0", "1"]),
        (0.5, "01", ["0", "0", "1", "1"]),
        (0.3, "57", ["5", "5", "5", "7", "7", "7"]),
        (0.4, "01", ["0", "0", "1", "1"]),
        (0.7, "01", ["0", "1"]),
        (2, "0123", ["01", "23"]),
    ],
)
def test_workers_share_gpus_within_their_limits(share: float, devices: str, found: list[str]) -> None:
    """As many workers as `fit` counts, each GPU with at most one whole GPU's worth of them."""
    room = Resources(64, len(devices)).fit(Resources(1, share))
    assert ["".join(devices_of(worker, share, devices)) for worker in range(room)] == found


@pytest.mark.slow
def test_a_worker_sees_the_gpu_of_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    executor = LocalExecutor()
    executor._capacity = Resources(8, 2)
    with executor.pool(Counter, Resources(1, 0.5)) as pool:
        found = [answer(pool, pool.start(), "variable", "CUDA_VISIBLE_DEVICES") for _ in range(3)]
    assert found == ["GPU-a", "GPU-a", "GPU-b"]


def test_capacity_is_that_of_this_machine() -> None:
    found = LocalExecutor().capacity()
    assert found.cpus == cores() and found.memory > 1 << 28
    assert LocalExecutor(cpus=8).capacity().cpus == 8


@pytest.mark.parametrize(
    ("have", "share", "room"),
    [
        (Resources(8, 2, 100), Resources(1), 8),
        (Resources(8, 2, 100), Resources(1, 0.5), 4),
        (Resources(8, 0, 100), Resources(1, 1), 0),
        (Resources(8, 2), Resources(1, 0.4), 4),
        (Resources(8, 3), Resources(1, 2), 1),
        (Resources(0.3), Resources(0.1), 3),
        (Resources(8, 2, 100), Resources(1, 0, 30), 3),
        (Resources(8), Resources(0), 1),
    ],
)
def test_room(have: Resources, share: Resources, room: int) -> None:
    assert have.fit(share) == room


@pytest.mark.parametrize("error", [EOFError, ConnectionRefusedError])
def test_a_call_is_repeated_where_the_server_that_forks_has_died(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, failed = ProcessPoolExecutor.submit, list[int]()

    def dies_once(pool: ProcessPoolExecutor, *arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(1)
            raise error
        return submit(pool, *arguments, **options)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", dies_once)
    with LocalExecutor().pool(Counter, Resources()) as pool:
        assert answer(pool, pool.start(), "count") == 1 and failed
