"""The actor's side of scoring, and its game with the driver when processes die: all of both, and no process.

What ends a process raises `Death` here, which nothing catches on its way; the next "process" opens the same box.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import picture

from actors import black_box
from actors.black_box import BlackBox, NoBox
from actors.rescoring import units_table
from actors.scorer import Progress, Scoring, UnitScorer, decodes_ahead
from actors.scoring import _Work
from curation import scores, units
from curation.attempts import Attempt, Care, recorded
from curation.data import ShardRef
from curation.images import DecodeLimits
from curation.ledger import Ledger
from curation.recipe import Compute
from curation.scorers import Batch
from curation.scorers.scorer import Plain
from curation.store import open_store
from curation.tar import TarWriter

DIES, RAISES, LEAVES, DECODE = "dies", "raises", "leaves", "decode"
REASONS = {DIES: "poison_died", RAISES: "poison_raised", LEAVES: "poison_died", DECODE: "poison_died"}


class Death(BaseException):
    """The end of a process."""


class Letters(Plain):
    """Counts letters; what it does instead depends on the caption's last word."""

    def __init__(self, count: list[int]) -> None:
        self.count = count  # samples of every call

    def identity(self) -> Mapping[str, Any]:
        return {"scorer": "letters"}

    def load(self, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        def score(batch: Batch) -> np.ndarray:
            self.count.append(len(batch.captions))
            for caption in batch.captions:
                match caption.split()[-1:]:
                    case ["dies"]:
                        raise Death
                    case ["raises"]:
                        raise ValueError("no")
                    case ["leaves"]:
                        raise SystemExit(3)
            return np.array([len(caption) for caption in batch.captions], np.float32)

        return score


class Box(BlackBox):
    """A real box of a process that keeps its notes when it "dies", and does not watch itself."""

    def watched(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def idle(self) -> None:
        if not isinstance(sys.exception(), Death):
            super().idle()


class Pool:
    """One shard of `n` samples, of which some are bad, and one actor after the other that scores it."""

    def __init__(self, root: Path, n: int, deeds: Mapping[int, str], batch_size: int, others: int = 0) -> None:
        self.root, self.deeds, self.count, self.deaths = root, deeds, list[int](), 0
        (root / "pool").mkdir(parents=True)
        (root / "scores").mkdir()
        for shard in range(1 + others):
            self._write(shard, n if not shard else 5, deeds if not shard else {})
        store = open_store(str(root / "pool"))
        self.shards = sorted(ShardRef(item.key, item.size, item.etag) for item in store.list())
        self.job = Scoring(
            store, Ledger(open_store(str(root / "scores"))), scores.Column("index", "f0"),
            [scores.Column("letters", "f1")], {"letters": Letters(self.count)}, DecodeLimits(),
            Compute(batch_size=batch_size, num_cpus=1),
        )  # fmt: skip

    def _write(self, shard: int, n: int, deeds: Mapping[int, str]) -> None:
        image = picture(1, "jpg", 16)
        with (self.root / "pool" / f"{shard}.tar").open("wb") as file:
            writer = TarWriter(file)
            for row in range(n):
                deed = deeds.get(row, "")
                writer.add(f"{row:06d}.jpg", image + (b"poison" if deed == DECODE else b""))
                writer.add(f"{row:06d}.txt", f"{'a' * (row % 7 + 1)} {deed if deed != DECODE else ''}".encode())
            writer.close()

    def score(self, most_deaths: int = 1 << 30) -> Progress:
        """What one driver does; it is "killed" at the most at so many deaths."""
        work, actor, total = _Work(self.job, units_table(self.shards)), None, Progress()
        while work.left() and self.deaths < most_deaths:
            call = work.next(1)
            assert call is not None
            actor = actor or UnitScorer(self.job, Box(self.root / "box"))
            try:
                progress = actor.score(call.number, call.units, call.care)
                work.suspects.done(call.units, call.care, progress)
                total.samples += progress.samples
            except Death:
                actor, self.deaths = None, self.deaths + 1
                assert not list(work.died(call, black_box.read(self.root / "box"), False))
        return total

    def values(self) -> list[float | None]:
        column: list[float | None] = scores.read(self.job.scored, self.shards[0], self.job.columns[0])[
            "value"
        ].to_pylist()
        return column

    def reasons(self) -> dict[int, str]:
        """Row -> why it was set aside, of the tables."""
        index = scores.read(self.job.scored, self.shards[0], self.job.index, ["reason"])["reason"].to_pylist()
        record = scores.record_of(self.job.scored, self.shards[0], self.job.columns[0])
        found = {row: reason for row, reason in enumerate(index) if reason}
        return found | {int(row): reason for row, reason in record.poison.items()}

    def attempts(self) -> list[Attempt]:
        return list(recorded(self.job.scored))


@pytest.fixture(autouse=True)
def _decoder_that_dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    inspect = units.inspect

    def inspected(data: bytes, *arguments: Any) -> Any:
        if data.endswith(b"poison"):
            raise Death
        return inspect(data, *arguments)

    monkeypatch.setattr(units, "inspect", inspected)
    yield
    faulthandler.disable()


def every(n: int, step: int, deed: str, start: int = 0) -> dict[int, str]:
    return dict.fromkeys(range(start, n, step), deed)


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


def test_a_scorer_that_kills_every_process_ends_the_run_soon(tmp_path: Path) -> None:
    from actors.isolation import LEAST
    from curation.errors import IncompleteError

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
    actor = UnitScorer(pool.job, NoBox())
    table, care = units_table(pool.shards), Care(16)
    progress = actor.score(1, table, care)
    assert (progress.samples, progress.units, progress.puts, progress.failures) == (35, 4, 8, ())
    assert progress.aside == ("0.tar: sample 3 is set aside: scorer letters raises ValueError: no",)
    assert progress.batches == 3  # 39 rows with the end rows
    assert actor.score(2, table, care) == Progress()
    gone = [pool.shards[0]._replace(etag="another")]
    failed = actor.score(3, units_table(gone), care)
    assert failed.units == 0 and failed.failures[0][0] == "0.tar"


def test_what_is_known_to_be_bad_is_neither_decoded_nor_scored(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 20, {3: DIES, 9: DECODE}, 16)
    care = Care(16, {}, {"f1": {3: "poison_died"}, "f0": {9: "poison_hung"}})
    UnitScorer(pool.job, NoBox()).score(1, units_table(pool.shards), care)
    assert pool.reasons() == {3: "poison_died", 9: "poison_hung"}


def test_models_are_loaded_once_and_tried_under_a_watch_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors import scorer

    pool = Pool(tmp_path, 5, {}, 4)
    seconds: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda time, **options: seconds.append(time))
    monkeypatch.setattr(scorer.ScorerActor, "__init__", partialmethod(_plain, tmp_path))
    actor = scorer.ScorerActor(pool.job)
    ready = actor.ready(4)
    assert ready.last is None and pool.count == [4], "a batch of nothing"
    assert seconds == [pytest.approx(scorer.LOADING * 900)], "not compute.batch_timeout, and one watch for all of it"
    assert actor.models is actor.models


def _plain(actor: Any, root: Path, job: Scoring) -> None:
    actor.path, actor.node = root / "box", "here"
    UnitScorer.__init__(actor, job, BlackBox(actor.path))


def test_decoding_runs_ahead_of_gpus_only() -> None:
    assert [decodes_ahead(Compute()), decodes_ahead(Compute(num_gpus=1)), decodes_ahead(Compute(decode_tasks=2))] == [
        0,
        4,
        2,
    ]
