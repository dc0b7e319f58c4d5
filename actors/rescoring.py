"""Score units again: to rebuild tables that are lost, and to compare tables with what the models say now.

The pool of `scoring` where there is a cluster; in this process for a few units, where starting Ray would take longer
than the work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import ray
from ray.util import ActorPool

from actors.cluster import cpus, gpus, unwrap
from actors.scoring import RETRIES, ScorerActor, Scoring
from curation.data import ShardRef
from curation.errors import IncompleteError
from curation.ledger import Ledger
from curation.store import open_store
from curation.verification.findings import Finding
from curation.verification.repairs import Mender
from curation.verification.rescored import compare


def units_table(shards: Sequence[ShardRef]) -> pa.Table:
    """Units as the pool of scorers takes them."""
    columns = list(zip(*shards, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.int64(), pa.string())
    names = ("shard_key", "shard_size", "shard_etag")
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, types, strict=True)})


def score_here(job: Scoring, shards: Sequence[ShardRef]) -> None:
    """Score units in this process. Raises `IncompleteError` for one that the store could not deliver."""
    progress = ScorerActor(job).score(units_table(shards))
    if progress.failures:
        key, why = progress.failures[0]
        raise IncompleteError(f"{key} could not be scored: {why}", fix="run the same command again")


@dataclass
class Rescorer:
    """Scores units into a ledger on this machine's disk, and compares with the tables that are shared.

    An actor, where there is a cluster: the models are loaded once.
    """

    job: Scoring
    mend: Mender

    def compare(self, shard: ShardRef) -> list[Finding]:
        """What differs in the tables of one unit."""
        with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
            own = Ledger(open_store(folder))
            self._actor.job = replace(self.job, scored=own)
            progress = self._actor.score(units_table([shard]))
            if progress.failures:
                why = progress.failures[0][1]
                where = self.job.corpus.location(shard.key)
                return [Finding("input", where, f"can't be scored again: {why}", "", "run the same command again")]
            found: list[Finding] = []
            for column in self.job.columns:
                found += compare(self.job.scored, own, shard, column, self.mend)
            return found

    @property
    def _actor(self) -> ScorerActor:
        if not hasattr(self, "_made"):
            self._made = ScorerActor(self.job)
        return self._made


def rescore(job: Scoring, shards: Iterable[ShardRef], mend: Mender) -> Iterator[list[Finding]]:
    """`Rescorer.compare` of every unit, on as many actors as the cluster has room for."""
    compute = job.compute
    room = cpus() / compute.num_cpus if not compute.num_gpus else gpus() / compute.num_gpus
    options = {"num_cpus": compute.num_cpus, "num_gpus": compute.num_gpus or None}
    remote = ray.remote(Rescorer).options(**options, max_restarts=-1, max_task_retries=RETRIES)
    actors = [remote.remote(job, mend) for _ in range(max(1, min(int(room), compute.max_actors or 64)))]
    try:
        yield from ActorPool(actors).map_unordered(lambda actor, shard: actor.compare.remote(shard), shards)
    except ray.exceptions.RayError as error:
        raise unwrap(error) from None
    finally:
        for actor in actors:
            ray.kill(actor)
