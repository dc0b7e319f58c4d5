"""The dispatch of units to workers, and the values that these accept from a scorer.

That units are scored, whatever dies: tests/jobs and tests/faults, with Ray.
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curation.core.errors import ConservationError, IncompleteError, UserError, WeightsError
from curation.core.executor import Resources, WorkerDiedError, WorkerPlace
from curation.curating.scoring import dispatch
from curation.curating.scoring.black_box import WorkNote
from curation.curating.scoring.dispatch import CALLS_PER_WORKER, MOST_UNITS, units_per_call
from curation.curating.scoring.isolation import as_numpy, as_rows, blamed
from curation.curating.scoring.scoring_task import CallProgress, ScoringTask
from curation.curating.scoring.unit_scorer import Ready
from curation.ledger.ledger import Ledger
from curation.ledger.score_tables import Column
from curation.ledger.score_values import value_array
from curation.recipes.curation_recipe import Compute
from curation.shards.images import DecodeLimits
from curation.storage.store import open_store


@given(units=st.integers(1, 20_000), workers=st.integers(1, 64))
def test_calls_are_large_first_and_single_units_last(units: int, workers: int) -> None:
    calls, left = [], units
    while left:
        calls.append(units_per_call(left, workers))
        left -= calls[-1]
    assert left == 0 and max(calls) <= MOST_UNITS
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == 1
    deal = CALLS_PER_WORKER * workers
    assert len(calls) <= units / MOST_UNITS + deal * (2 + log(MOST_UNITS)) + 1  # few, beside those that must be


def test_what_a_scorer_gives_is_values_of_a_batch() -> None:
    for good in (np.zeros(3), torch.zeros(3), pa.array(["a"])):
        assert len(as_rows("mine", good)) in (1, 3)
    with pytest.raises(UserError, match="scorer mine gives a list"):
        as_rows("mine", ["a", "b"])


def test_what_goes_wrong_in_a_scorer_is_one_line_that_names_it() -> None:
    with (
        pytest.raises(
            UserError, match=r"scorer mine fails: ZeroDivisionError: division by zero \(.*test_dispatch.py:\d+"
        ),
        blamed("mine"),
    ):
        print(1 / 0)
    with pytest.raises(WeightsError, match="scorer mine: vectors of another encoder") as error, blamed("mine"):
        raise WeightsError("vectors of another encoder", fix="make others")
    assert error.value.fix == "make others"
    for said in ("scorer mine gives a list", "bad data"):
        with pytest.raises(UserError, match=f"^scorer mine:? {said.removeprefix('scorer mine ')}$"), blamed("mine"):
            raise UserError(said)
    with pytest.raises(UserError, match=r"^scorer a: bad data$"), blamed("a"):  # whatever letters are in it
        raise UserError("bad data")
    with pytest.raises(ConservationError, match=r"^counts$"), blamed("mine"):
        raise ConservationError("counts")
    assert as_rows("mine", torch.ones(2, requires_grad=True) * 2).tolist() == [2, 2]


def test_tensors_of_whole_numbers_stay_what_they_are() -> None:
    for numbers in (torch.tensor([2**62 + 12345, 5]), torch.tensor([2**24 + 1, 5], dtype=torch.float64)):
        found = value_array(as_numpy(numbers), np.array([True, False]), pa.int64())
        assert found.to_pylist() == [int(numbers[0]), None]
    halves = torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
    assert value_array(as_numpy(halves), np.ones(2, bool), pa.float32()).to_pylist() == [0.5, 2.0]


class _Pool:
    """A pool and its executor, whose calls never run.

    `answers` are (start of a call's name, value or error), given in this order to who waits.
    """

    name = "scripted"

    def __init__(self, cpus: float, answers: list[tuple[str, Any]], gpus: float = 0) -> None:
        self.gpus = gpus
        self.cpus, self.answers, self.workers, self.calls = cpus, answers, 0, 0
        self.closed = False

    def capacity(self) -> Resources:
        return Resources(self.cpus, self.gpus)

    def pool(self, factory: Any, share: Resources) -> _Pool:
        return self

    def start(self) -> int:
        self.workers += 1
        return self.workers

    def submit(self, worker: int, method: str, *arguments: Any) -> str:
        self.calls += 1
        return f"worker{worker} {method} {self.calls}"

    def read(self, place: WorkerPlace, function: Any) -> str:
        self.calls += 1
        return f"box of {place.machine} {self.calls}"

    def wait(self, calls: list[str], timeout: float | None = None) -> list[str]:
        assert self.answers, f"nothing will ever answer {calls}"
        found = [call for call in calls if call.startswith(self.answers[0][0])]
        assert found, f"{self.answers[0][0]} is not waited for, only {calls}"
        return found[:1]

    def result(self, call: str) -> Any:
        value = self.answers.pop(0)[1]
        if isinstance(value, Exception):
            raise value
        return value

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True


def _job(tmp_path: Path, workers: int) -> tuple[ScoringTask, pa.Table]:
    store = open_store(str(tmp_path))
    compute = Compute(batch_size=64, min_actors=workers)
    job = ScoringTask(store, Ledger(store), Column("index", "f0"), [Column("clip", "f1")], {}, DecodeLimits(), compute)
    names = ("shard_key", "shard_size", "shard_etag")
    return job, pa.table({name: [value] * 2 for name, value in zip(names, ("a.tar", 10, "e"), strict=True)})


def _ready(machine: str, root: Path, last: WorkNote | None = None) -> Ready:
    return Ready(WorkerPlace(machine, root / machine), last)


@pytest.mark.parametrize(
    ("compute", "cpus", "gpus", "room"),
    [
        ({}, 8, 0, 8),
        ({"decode_tasks": 1}, 8, 0, 4),
        ({"decode_tasks": 3, "decode_cpus": 0.5}, 8, 0, 3),
        ({"decode_tasks": 4}, 2, 0, 1),  # however few
        ({"num_gpus": 1}, 16, 2, 2),
        ({"num_gpus": 0.5}, 16, 2, 4),
        ({"num_gpus": 0.5}, 3, 2, 2),  # of three cores, one decodes
    ],
)
def test_workers_leave_cores_to_those_who_decode_for_them(
    compute: dict[str, Any], cpus: int, gpus: int, room: int, tmp_path: Path
) -> None:
    job, units = _job(tmp_path, 1)
    job = replace(job, compute=Compute(**compute))
    work = dispatch._Work(job, pa.concat_tables([units] * 10))
    pool = _Pool(cpus, [], gpus)
    assert dispatch._Workers(job, work, pool, pool).room() == room  # type: ignore[arg-type]


@pytest.mark.parametrize("box", ["gone", "read", "late"])
def test_what_a_worker_had_goes_to_another_where_it_never_starts_again(
    box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines, each with a worker; the first machine dies with the first call and does not come back."""
    job, units = _job(tmp_path, 2)
    units = pa.table({**{n: units.column(n) for n in units.column_names}, "shard_key": ["a.tar", "b.tar"]})
    note = WorkNote(1, "clip", ((0, 3, 3),), False, "")
    answers: list[tuple[str, Any]] = [
        ("worker1 ready", _ready("one", tmp_path)),
        ("worker2 ready", _ready("two", tmp_path)),
        ("worker1 score", WorkerDiedError("dead")),  # from here on, nothing answers for worker 1
        ("box of one", WorkerDiedError("no such machine", elsewhere=True) if box == "gone" else note),
        ("worker2 score", CallProgress(samples=5, units=1)),
        ("worker2 score", CallProgress(samples=5, units=1)),
    ]
    if box == "late":  # nor for its machine
        del answers[3]
        monkeypatch.setattr(dispatch, "BOX_SECONDS", 0.0)
    pool = _Pool(2, answers)
    assert sum(progress.units for progress in dispatch.score(job, units, pool)) == 2  # type: ignore[arg-type]
    assert not pool.answers and pool.closed
    assert bool(list(job.scored.store.list("attempts"))) == (box == "read")  # its sample is under suspicion


def test_a_note_that_the_next_process_wrote_over_is_what_that_process_reports(tmp_path: Path) -> None:
    job, units = _job(tmp_path, 1)
    note = WorkNote(1, "clip", ((0, 3, 3),), False, "")
    answers: list[tuple[str, Any]] = [
        ("worker1 ready", _ready("one", tmp_path)),
        ("worker1 score", WorkerDiedError("dead")),
        ("box", WorkNote(0, "clip", (), False, "")),
        ("worker1 ready", _ready("one", tmp_path, note)),
        ("worker1 score", CallProgress(samples=5, units=1)),
    ]
    pool = _Pool(1, answers)
    found = dispatch.score(job, units.slice(0, 1), pool)  # type: ignore[arg-type]
    assert sum(progress.units for progress in found) == 1
    assert not pool.answers and len(list(job.scored.store.list("attempts"))) == 1


def test_a_run_ends_where_every_process_dies_as_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, units = _job(tmp_path, 1)
    monkeypatch.setattr(dispatch, "PAUSE_SECONDS", (0.0, 0.0))
    elsewhere = WorkerDiedError("no such machine", elsewhere=True)  # counts for nothing
    deaths = [elsewhere, *[WorkerDiedError("dead")] * (dispatch.DEATHS + 1)]
    pool = _Pool(1, [("worker1 ready", error) for error in deaths])
    with pytest.raises(IncompleteError, match="every process dies while it loads"):
        list(dispatch.score(job, units, pool))  # type: ignore[arg-type]
    assert not pool.answers and pool.closed
