"""Score units again, to compare their tables with what the models say now.

Each worker of the executor's pool loads the models once and scores units into a ledger on its machine's own disk.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

from curation.core.executor import CallHandle, Executor, Resources, WorkerDiedError, WorkerPlace, WorkerPool
from curation.core.types import ShardRef
from curation.curating.scoring.batches import units_table
from curation.curating.scoring.black_box import NullBlackBox
from curation.curating.scoring.scoring_task import ScoringTask
from curation.curating.scoring.unit_scorer import UnitScorer
from curation.curating.verification.findings import Finding
from curation.curating.verification.model_scores import compare
from curation.curating.verification.repairs import RepairWriter
from curation.ledger import attempts
from curation.ledger.attempts import CallSettings
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store

RETRIES = 2  # of a unit whose worker died
MOST_WORKERS = 64


@dataclass
class Rescorer:
    """Scores units into a ledger on this machine's disk, and compares that with the shared tables."""

    job: ScoringTask
    repairs: RepairWriter

    def compare(self, shard: ShardRef) -> list[Finding]:
        """What differs in the tables of one unit."""
        with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
            own = Ledger(open_store(folder))
            self._scorer.job = replace(self.job, scored=own)
            poison = attempts.poison_of(self.job.scored, shard, self.job.all_columns)
            progress = self._scorer.score(
                0, units_table([shard]), CallSettings(self.job.compute.batch_size, {}, poison)
            )
            if progress.failures:
                why = progress.failures[0][1]
                where = self.job.corpus.location(shard.key)
                return [Finding("input", where, f"can't be scored again: {why}", "", "run the same command again")]
            found: list[Finding] = []
            for column in self.job.columns:
                found += compare(self.job.scored, own, shard, column, self.repairs)
            return found

    @cached_property
    def _scorer(self) -> UnitScorer:
        return UnitScorer(self.job, NullBlackBox())


def rescore(
    job: ScoringTask, shards: Iterable[ShardRef], repairs: RepairWriter, executor: Executor
) -> Iterator[list[Finding]]:  # fmt: skip
    """Yield `Rescorer.compare` of every unit, as completed, from as many workers as there is room for.

    A unit whose worker dies is tried again, `RETRIES` times. Raises `WorkerDiedError` after that.
    """
    share = Resources(job.compute.num_cpus, job.compute.num_gpus)
    room = max(1, min(executor.capacity().fit(share), job.compute.max_actors or MOST_WORKERS))
    deaths = Counter[ShardRef]()
    with executor.pool(partial(_rescorer, job, repairs), share) as pool:
        idle, busy, number = list[int](), dict[CallHandle, tuple[int, ShardRef]](), 0
        for shard in shards:
            if not idle and number < room:
                idle.append(pool.start())
                number += 1
            worker = idle.pop()
            busy[pool.submit(worker, "compare", shard)] = worker, shard
            while not idle and number == room:
                yield from _ended(pool, busy, idle, deaths)
        while busy:
            yield from _ended(pool, busy, idle, deaths)


def _ended(
    pool: WorkerPool, busy: dict[CallHandle, tuple[int, ShardRef]], idle: list[int], deaths: Counter[ShardRef]
) -> Iterator[list[Finding]]:
    """Wait for calls to end; yield what they found. Their workers are idle again, or try the unit once more."""
    for call in pool.wait(list(busy)):
        worker, shard = busy.pop(call)
        try:
            found: list[Finding] = pool.result(call)
        except WorkerDiedError:
            deaths[shard] += 1
            if deaths[shard] > RETRIES:
                raise
            busy[pool.submit(worker, "compare", shard)] = worker, shard
            continue
        idle.append(worker)
        yield found


def _rescorer(job: ScoringTask, repairs: RepairWriter, place: WorkerPlace) -> Rescorer:
    return Rescorer(job, repairs)
