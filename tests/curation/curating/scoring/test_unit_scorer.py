"""The actor's side of scoring, and its game with the driver when processes die (see `deaths`). No Ray, no process."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import deaths
import numpy as np
import pytest
import torch
from deaths import DECODE, DIES, LEAVES, RAISES, REASONS, Death, Letters, Pool, inspected

from curation.core.errors import IncompleteError
from curation.core.executor import WorkerPlace
from curation.curating.scoring import unit_scorer
from curation.curating.scoring.batches import units_table
from curation.curating.scoring.black_box import NullBlackBox
from curation.curating.scoring.isolation import LEAST, Isolated
from curation.curating.scoring.scoring_task import CallProgress
from curation.curating.scoring.unit_scorer import UnitScorer, decodes_ahead
from curation.ledger.attempts import CallSettings
from curation.recipes.curation_recipe import Compute
from curation.scorers import Batch
from curation.shards import unit_reader as units


@pytest.fixture(autouse=True)
def _decoder_that_dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(units, "inspect", inspected)
    yield
    faulthandler.disable()


def every(n: int, step: int, deed: str, start: int = 0) -> dict[int, str]:
    return dict.fromkeys(range(start, n, step), deed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "batch_size", "deeds"),
    [
        (60, 32, {5: DIES}),
        (60, 32, every(9, 1, DIES)),  # the first of a corpus
        (60, 8, every(20, 1, DIES)),  # more than whole batches
        (300, 32, every(300, 40, DIES, 5)),  # each in a batch of its own
        (100, 32, every(100, 4, DIES)),
        (60, 32, every(9, 1, DECODE)),
        (60, 32, {3: RAISES, 9: DIES, 10: LEAVES, 40: DECODE, 41: DIES, 50: RAISES}),
    ],
)
def test_bad_samples_of_one_unit_cost_a_few_deaths_each_and_nothing_else(
    n: int, batch_size: int, deeds: dict[int, str], tmp_path: Path
) -> None:
    pool = Pool(tmp_path, n, deeds, batch_size, others=2)
    assert pool.score().samples == n + 2 * 5
    assert pool.reasons() == {row: REASONS[deed] for row, deed in deeds.items()}
    wanted = [None if row in deeds else float(row % 7 + 2) for row in range(n)]
    assert pool.values() == wanted, "the neighbours' scores are those without the bad ones"
    deadly = [row for row, deed in deeds.items() if deed in (DIES, DECODE)]
    scored = [row for row in deadly if deeds[row] == DIES]
    assert pool.deaths <= 2 * len(deadly) + len({row // batch_size for row in scored})
    raising = len(deeds) - len(deadly)
    assert sum(pool.count) <= 4 * n + 2 * len(deadly) + 4 * batch_size * raising
    puts = pool.job.scored.store.stats.creates
    assert puts <= 2 * (pool.deaths + len(deeds)) + 3 * 2, "attempts are counted, not searched for a free number"


@pytest.mark.parametrize("deeds", [{}, {3: RAISES, 9: DIES, 10: LEAVES, 40: DECODE, 41: DIES, 50: RAISES}])
def test_reading_the_next_batch_while_one_is_scored_changes_nothing(
    deeds: dict[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker with a GPU does."""
    plain = Pool(tmp_path / "a", 60, deeds, 16, others=2)
    plain.score()
    order: list[str] = []
    begin, following = Isolated.begin, UnitScorer._next

    class Overlapping(UnitScorer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.overlaps = True
            for model in self.models.values():
                model.deferred = True

    def begun(self: Isolated, *arguments: Any) -> Any:
        order.append("begin")
        finish = begin(self, *arguments)
        return lambda: order.append("finish") or finish()  # type: ignore[func-returns-value]

    def read(self: UnitScorer, *arguments: Any) -> Any:
        order.append("next")
        return following(self, *arguments)

    monkeypatch.setattr(Isolated, "begin", begun)
    monkeypatch.setattr(UnitScorer, "_next", read)
    monkeypatch.setattr(deaths, "UnitScorer", Overlapping)
    pool = Pool(tmp_path / "b", 60, deeds, 16, others=2)
    assert pool.score().samples == 60 + 2 * 5
    assert pool.reasons() == plain.reasons() and pool.values() == plain.values()
    assert pool.deaths <= plain.deaths + 1
    if not deeds:
        assert order[:7] == ["next", "begin", "next", "finish", "begin", "next", "finish"]


def test_a_driver_goes_on_where_the_one_before_was_killed(tmp_path: Path) -> None:
    deeds = {5: DIES, 7: RAISES, 20: DIES, 31: DECODE}
    whole = Pool(tmp_path / "a", 64, deeds, 16)
    whole.score()
    pool = Pool(tmp_path / "b", 64, deeds, 16)
    for most in range(1, 100):
        pool.score(most)
        if pool.deaths < most:
            break
    assert pool.values() == whole.values() and pool.reasons() == whole.reasons()
    assert pool.deaths == whole.deaths and len(pool.attempts()) == len(whole.attempts())


@pytest.mark.slow
def test_a_scorer_that_kills_every_process_ends_the_run_soon(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 80, every(80, 1, DIES), 64)
    with pytest.raises(IncompleteError, match=f"scorer letters ends its process for {LEAST + 1} samples"):
        pool.score()
    assert pool.deaths < 3 * LEAST


def test_a_sample_that_kills_once_costs_nothing_but_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, deaths = Pool(tmp_path, 40, {}, 16), [Death()]
    load = Letters.load

    def loaded(self: Letters, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        score = load(self, device, options)

        def once(batch: Batch) -> np.ndarray:
            if len(self.count) == 1 and deaths:
                raise deaths.pop()
            return score(batch)

        return once

    monkeypatch.setattr(Letters, "load", loaded)
    pool.score()
    assert pool.reasons() == {} and pool.deaths == 1 and None not in pool.values()


def test_a_call_commits_units_once_and_counts_what_it_did(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 20, {3: RAISES}, 16, others=3)
    actor = UnitScorer(pool.job, NullBlackBox())
    table, care = units_table(pool.shards), CallSettings(16)
    progress = actor.score(1, table, care)
    assert (progress.samples, progress.units, progress.puts, progress.failures) == (35, 4, 8, ())
    assert progress.aside == ("0.tar: sample 3 is set aside: scorer letters raises ValueError: no",)
    assert progress.batches == 3  # 39 rows with the end rows
    assert actor.score(2, table, care) == CallProgress()
    gone = [pool.shards[0]._replace(etag="another")]
    failed = actor.score(3, units_table(gone), care)
    assert failed.units == 0 and failed.failures[0][0] == "0.tar"


def test_what_is_known_to_be_bad_is_neither_decoded_nor_scored(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 20, {3: DIES, 9: DECODE}, 16)
    care = CallSettings(16, {}, {"f1": {3: "poison_died"}, "f0": {9: "poison_hung"}})
    UnitScorer(pool.job, NullBlackBox()).score(1, units_table(pool.shards), care)
    assert pool.reasons() == {3: "poison_died", 9: "poison_hung"}


def test_models_are_loaded_once_and_tried_under_a_watch_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, 5, {}, 4)
    seconds: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda time, **options: seconds.append(time))
    actor = unit_scorer.ScoringWorker(pool.job, WorkerPlace("here", tmp_path / "box"))
    ready = actor.ready(4)
    assert ready.last is None and pool.count == [4], "a batch of nothing"
    assert seconds == [pytest.approx(unit_scorer.LOADING * 900)], (
        "not compute.batch_timeout, and one watch for all of it"
    )
    assert actor.models is actor.models


def test_models_are_compiled_for_the_batches_that_they_will_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation.models import shared_encoder

    pool, rows = Pool(tmp_path, 5, {}, 4), list[int]()
    monkeypatch.setattr(shared_encoder, "compile_encoders", rows.append)
    for compiled in (False, True):
        compute = Compute(batch_size=4, num_cpus=1, compile=compiled)
        job = replace(pool.job, compute=compute)
        unit_scorer.ScoringWorker(job, WorkerPlace("here", tmp_path / f"box-{compiled}")).ready(4)
    assert rows == [4]


@pytest.mark.parametrize(("share", "fractions"), [(0.5, [0.5]), (1, []), (2, [])])
def test_workers_that_share_a_gpu_share_its_memory(
    share: float, fractions: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", found.append)
    job = replace(Pool(tmp_path, 5, {}, 4).job, compute=Compute(num_gpus=share))
    assert UnitScorer(job, NullBlackBox()).gpu and found == fractions


@pytest.mark.parametrize(("compute", "tasks"), [({}, 0), ({"num_gpus": 1}, 4), ({"decode_tasks": 2}, 2)])
def test_decoding_runs_ahead_of_gpus_only(compute: dict[str, int], tasks: int) -> None:
    assert decodes_ahead(Compute(**compute)) == tasks
