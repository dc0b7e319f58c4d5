"""Score units again: to rebuild tables that are lost, and to compare tables with what the models say now.

The pool of `scoring` where there is a cluster; in this process for a few units, where starting Ray would take longer
than the work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from actors.black_box import NullBlackBox
from actors.cluster import cpus, explained, gpus
from actors.scorer import ScoringTask, UnitScorer
from actors.waiting import get, wait
from curation.core.errors import IncompleteError
from curation.core.types import ShardRef
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import Mender
from curation.curating.verification.rescored import compare
from curation.ledger import attempts
from curation.ledger.attempts import CallSettings, Suspicion
from curation.ledger.ledger import Ledger
from curation.storage.store import open_store

RETRIES = 2  # of a unit whose actor died


def units_table(shards: Sequence[ShardRef]) -> pa.Table:
    """Units as the pool of scorers takes them."""
    columns = list(zip(*shards, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.int64(), pa.string())
    names = ("shard_key", "shard_size", "shard_etag")
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, types, strict=True)})


def score_here(job: ScoringTask, shards: Sequence[ShardRef]) -> None:
    """Score units in this process. Raises `IncompleteError` for one that the store could not deliver."""
    scorer, known = UnitScorer(job, NullBlackBox()), dict[ShardRef, Suspicion]()
    for attempt in attempts.recorded(job.scored):
        known.setdefault(attempt.shard, Suspicion()).note(attempt)
    for shard in shards:
        poison = attempts.poison_of(job.scored, shard, job.all_columns)
        for fingerprint, rows in known.get(shard, Suspicion()).poison.items():
            poison[fingerprint] = {**poison.get(fingerprint, {}), **rows}
        progress = scorer.score(0, units_table([shard]), CallSettings(job.compute.batch_size, {}, poison))
        if progress.failures:
            key, why = progress.failures[0]
            raise IncompleteError(f"{key} could not be scored: {why}", fix="run the same command again")


@dataclass
class Rescorer:
    """Scores units into a ledger on this machine's disk, and compares with the tables that are shared.

    An actor, where there is a cluster: the models are loaded once.
    """

    job: ScoringTask
    mend: Mender

    def compare(self, shard: ShardRef) -> list[Finding]:
        """What differs in the tables of one unit."""
        with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
            own = Ledger(open_store(folder))
            self._actor.job = replace(self.job, scored=own)
            poison = attempts.poison_of(self.job.scored, shard, self.job.all_columns)
            progress = self._actor.score(0, units_table([shard]), CallSettings(self.job.compute.batch_size, {}, poison))
            if progress.failures:
                why = progress.failures[0][1]
                where = self.job.corpus.location(shard.key)
                return [Finding("input", where, f"can't be scored again: {why}", "", "run the same command again")]
            found: list[Finding] = []
            for column in self.job.columns:
                found += compare(self.job.scored, own, shard, column, self.mend)
            return found

    @property
    def _actor(self) -> UnitScorer:
        if not hasattr(self, "_made"):
            self._made = UnitScorer(self.job, NullBlackBox())
        return self._made


def rescore(job: ScoringTask, shards: Iterable[ShardRef], mend: Mender) -> Iterator[list[Finding]]:
    """`Rescorer.compare` of every unit, on as many actors as the cluster has room for."""
    compute = job.compute
    room = cpus() / compute.num_cpus if not compute.num_gpus else gpus() / compute.num_gpus
    options = {"num_cpus": compute.num_cpus, "num_gpus": compute.num_gpus or None}
    remote = ray.remote(Rescorer).options(**options, max_restarts=-1, max_task_retries=RETRIES)
    actors = [remote.remote(job, mend) for _ in range(max(1, min(int(room), compute.max_actors or 64)))]
    idle, busy = list(actors), dict[Any, Any]()
    try:
        for shard in shards:
            actor = idle.pop()
            busy[actor.compare.remote(shard)] = actor
            if not idle:
                yield _first(busy, idle)
        while busy:
            yield _first(busy, idle)
    except ray.exceptions.RayError as error:
        raise explained(error) from None
    finally:
        for actor in actors:
            ray.kill(actor)


def _first(busy: dict[Any, Any], idle: list[Any]) -> list[Finding]:
    """What the first call that ends has found; its actor is idle again."""
    (done,), _ = wait(list(busy))
    idle.append(busy.pop(done))
    found: list[Finding] = get(done)
    return found
