"""What checks work on and where they run: in this process for a small dataset, else as Ray tasks, a few per CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.core.progress import Tick
    from curation.core.types import ShardRef
    from curation.curating.verification.findings import Finding
    from curation.curating.verification.repairs import Mender
    from curation.ledger.plans import Plan
    from curation.storage.store import Store
    from jobs.pipeline import Pipeline

HERE = 50_000  # samples that are checked in this process: about the time in which Ray starts and stops, on 8 cores


@dataclass(frozen=True)
class Here:
    """This process and its threads."""

    def spread(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from curation.core.parallel import map_ordered

        yield from map_ordered(function, items, threads=os.cpu_count() or 1)

    def again(self, work: Pipeline, shards: Sequence[ShardRef], names: Sequence[str]) -> None:
        """Score columns of units that lack them."""
        from actors.rescoring import score_here

        score_here(work.scoring(names), shards)

    def rescore(
        self, work: Pipeline, names: Sequence[str], shards: Iterable[ShardRef], mend: Mender
    ) -> Iterator[list[Finding]]:
        """What differs in the score tables of units when they are scored once more."""
        from actors.rescoring import Rescorer

        rescorer = Rescorer(work.scoring(names), mend)
        yield from map(rescorer.compare, shards)


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster, which is connected."""

    def spread(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from actors.cluster import cpus, map_bounded

        yield from map_bounded(function, items, width=2 * cpus())

    def again(self, work: Pipeline, shards: Sequence[ShardRef], names: Sequence[str]) -> None:
        from jobs.pipeline import lacking_units

        work.score(lacking_units((shard, names) for shard in shards), lambda n: None)

    def rescore(
        self, work: Pipeline, names: Sequence[str], shards: Iterable[ShardRef], mend: Mender
    ) -> Iterator[list[Finding]]:
        from actors.rescoring import rescore

        yield from rescore(work.scoring(names), shards, mend)


@dataclass
class Subject:
    """A snapshot whose plan and recipe are known, with what its checks share."""

    out: Store
    number: int
    raw: Mapping[str, Any]  # its document as it is there
    work: Pipeline
    plan: Plan
    mend: Mender
    engine: Here | OnRay
    shown: Callable[[str, int | None], AbstractContextManager[Tick]]  # what shows progress: a label, a total
    notes: list[str]  # what could not be compared, and why
    found: set[str]  # where objects lie that have findings
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of software, by digest, as they are known

    @property
    def stale(self) -> frozenset[str]:
        """The columns that this version of the software would not make as they were made."""
        ours = self.work.recipe.fingerprints
        return frozenset(column.name for column in self.work.columns if ours.get(column.name) != column.fingerprint)

    @property
    def software(self) -> Mapping[str, Mapping[str, str]] | None:
        """What made the snapshot; None where that is not known."""
        from curation.curating.verification.versions import right_software

        return right_software(self.raw.get("software"), self.versions)

    @property
    def same_software(self) -> bool:
        """Whether the software that made the snapshot is that of this process."""
        from curation.core.software import software, software_id

        return list(self.software or ()) == [software_id(software())]


@contextmanager
def engine(address: str | None, samples: int) -> Iterator[Here | OnRay]:
    """This process for a small dataset, unless a cluster is asked for or connected; else a cluster."""
    from actors.cluster import address_of, cluster, is_connected

    if samples <= HERE and not address_of(address) and not is_connected():
        yield Here()
        return
    with cluster(address):
        yield OnRay()
