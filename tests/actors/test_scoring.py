"""How units are dealt to actors, and what these take from a scorer.

That units are scored, whatever dies: tests/jobs and tests/faults, with Ray.
"""

from __future__ import annotations

from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors import scoring
from actors.black_box import WorkNote
from actors.isolation import as_numpy, as_rows, blamed
from actors.scorer import CallProgress, Ready, ScoringTask
from actors.scoring import CALLS_PER_ACTOR, MOST_UNITS, units_per_call
from curation.core.errors import ConservationError, UserError, WeightsError
from curation.ledger.ledger import Ledger
from curation.ledger.score_tables import Column
from curation.ledger.score_values import value_array
from curation.recipes.curation_recipe import Compute
from curation.shards.images import DecodeLimits
from curation.storage.store import open_store


@given(units=st.integers(1, 20_000), actors=st.integers(1, 64))
def test_calls_are_large_first_and_single_units_last(units: int, actors: int) -> None:
    calls, left = [], units
    while left:
        calls.append(units_per_call(left, actors))
        left -= calls[-1]
    assert left == 0 and max(calls) <= MOST_UNITS
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] == 1
    deal = CALLS_PER_ACTOR * actors
    assert len(calls) <= units / MOST_UNITS + deal * (2 + log(MOST_UNITS)) + 1  # few, beside those that must be


def test_what_a_scorer_gives_is_values_of_a_batch() -> None:
    for good in (np.zeros(3), torch.zeros(3), pa.array(["a"])):
        assert len(as_rows("mine", good)) in (1, 3)
    with pytest.raises(UserError, match="scorer mine gives a list"):
        as_rows("mine", ["a", "b"])


def test_what_goes_wrong_in_a_scorer_is_one_line_that_names_it() -> None:
    with (
        pytest.raises(
            UserError, match=r"scorer mine fails: ZeroDivisionError: division by zero \(.*test_scoring.py:\d+"
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


class _Actor:
    """Stands for an actor's handle: its methods give names of references."""

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, 0

    def __getattr__(self, method: str) -> Any:
        def remote(*_: Any) -> str:
            self.calls += 1
            return f"{self.name} {method} {self.calls}"

        return SimpleNamespace(remote=remote)


class _Cluster:
    """Stands for Ray: `answers` are (start of a reference, value or error), given in this order to who waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[tuple[str, Any]]) -> None:
        self.answers, self.actors, self.asked = answers, 0, list[str]()
        monkeypatch.setattr(scoring, "_remote", lambda compute: SimpleNamespace(remote=self.actor))
        monkeypatch.setattr(scoring, "_open_box", lambda home: f"box of {home.node}")
        monkeypatch.setattr(scoring, "wait", self.wait)
        monkeypatch.setattr(scoring, "get", self.get)
        monkeypatch.setattr(scoring, "cpus", lambda: 2.0)
        monkeypatch.setattr(scoring, "check", lambda: None)
        monkeypatch.setattr(scoring.ray, "kill", lambda actor: None)

    def actor(self, job: ScoringTask) -> _Actor:
        self.actors += 1
        return _Actor(f"actor{self.actors}")

    def wait(self, refs: list[str], timeout: float | None = None) -> tuple[list[str], list[str]]:
        assert self.answers, f"nothing will ever answer {refs}"
        found = [ref for ref in refs if ref.startswith(self.answers[0][0])]
        assert found, f"{self.answers[0][0]} is not waited for, only {refs}"
        return found[:1], []

    def get(self, ref: str) -> Any:
        value = self.answers.pop(0)[1]
        self.asked.append(ref)
        if isinstance(value, Exception):
            raise value
        return value


def _job(tmp_path: Path, actors: int) -> tuple[ScoringTask, pa.Table]:
    store = open_store(str(tmp_path))
    compute = Compute(batch_size=64, min_actors=actors)
    job = ScoringTask(store, Ledger(store), Column("index", "f0"), [Column("clip", "f1")], {}, DecodeLimits(), compute)
    names = ("shard_key", "shard_size", "shard_etag")
    return job, pa.table({name: [value] * 2 for name, value in zip(names, ("a.tar", 10, "e"), strict=True)})


@pytest.mark.parametrize("box", ["gone", "read", "late"])
def test_what_an_actor_had_goes_to_another_where_it_never_starts_again(
    box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes, each with an actor; the first node dies with the first call and does not come back."""
    job, units = _job(tmp_path, 2)
    units = pa.table({**{n: units.column(n) for n in units.column_names}, "shard_key": ["a.tar", "b.tar"]})
    ready = [Ready(f"node{n}", tmp_path / str(n), None) for n in (1, 2)]
    note = WorkNote(1, "clip", ((0, 3, 3),), False, "")
    answers: list[tuple[str, Any]] = [
        ("actor1 ready", ready[0]),
        ("actor2 ready", ready[1]),
        ("actor1 score", ray.exceptions.RayActorError()),  # from here on, nothing answers for actor1
        ("box", ray.exceptions.TaskUnschedulableError("no such node") if box == "gone" else note),
        ("actor2 score", CallProgress(samples=5, units=1)),
        ("actor2 score", CallProgress(samples=5, units=1)),
    ]
    if box == "late":  # nor for its node
        del answers[3]
        monkeypatch.setattr(scoring, "BOX_SECONDS", 0.0)
    cluster = _Cluster(monkeypatch, answers)
    assert sum(progress.units for progress in scoring.score(job, units)) == 2
    assert not cluster.answers
    assert bool(list(job.scored.store.list("attempts"))) == (box == "read")  # its sample is under suspicion


def test_a_note_that_the_next_process_wrote_over_is_what_that_process_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, units = _job(tmp_path, 1)
    monkeypatch.setattr(scoring, "cpus", lambda: 1.0)
    note = WorkNote(1, "clip", ((0, 3, 3),), False, "")
    home = Ready("node1", tmp_path / "1", None)
    answers: list[tuple[str, Any]] = [
        ("actor1 ready", home),
        ("actor1 score", ray.exceptions.RayActorError()),
        ("box", WorkNote(0, "clip", (), False, "")),
        ("actor1 ready", home._replace(last=note)),
        ("actor1 score", CallProgress(samples=5, units=1)),
    ]
    cluster = _Cluster(monkeypatch, answers)
    monkeypatch.setattr(scoring, "cpus", lambda: 1.0)
    assert sum(progress.units for progress in scoring.score(job, units.slice(0, 1))) == 1
    assert not cluster.answers and len(list(job.scored.store.list("attempts"))) == 1
