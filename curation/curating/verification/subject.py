"""What checks work on, and how they run on an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from curation.core.executor import Executor
from curation.core.progress import Tick
from curation.core.software import software, software_id
from curation.core.types import ShardRef
from curation.curating import scoring_passes
from curation.curating.pipeline import Pipeline
from curation.curating.planning import lacking_units
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.versions import right_software
from curation.ledger.plans import Plan
from curation.storage.store import Store

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class CheckRunner:
    """Runs checks on an executor."""

    executor: Executor

    def spread(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results of a check in the order of its items."""
        yield from self.executor.map(function, items)

    def again(self, work: Pipeline, shards: Sequence[ShardRef], names: Sequence[str]) -> None:
        """Score columns of units that have no tables of them. Raises `IncompleteError` where that fails."""
        aside = dict(work.unreadable)
        try:
            units = lacking_units((shard, names) for shard in shards)
            scoring_passes.score_units(work, units, lambda n: None, self.executor)
        finally:
            work.unreadable.clear()  # what the snapshot was made without stays what it is
            work.unreadable.update(aside)

    def rescore(
        self, work: Pipeline, names: Sequence[str], shards: Iterable[ShardRef], repairs: RepairWriter
    ) -> Iterator[list[Finding]]:
        """Score units once more, and yield what differs from their score tables."""
        from curation.curating.verification.rescoring import rescore

        yield from rescore(scoring_passes.scoring_task(work, names), shards, repairs, self.executor)


@dataclass
class Subject:
    """A snapshot whose plan and recipe are known, with what its checks share."""

    out: Store
    number: int
    raw: Mapping[str, Any]  # its document as it is there
    work: Pipeline
    plan: Plan
    repairs: RepairWriter
    engine: CheckRunner
    shown: Callable[[str, int | None], AbstractContextManager[Tick]]  # what shows progress: a label, a total
    notes: list[str]  # what could not be compared, and why
    found: set[str]  # where objects lie that have findings
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of software, by digest, as they are known

    @property
    def stale(self) -> frozenset[str]:
        """The columns that this version of the software would compute differently."""
        ours = self.work.recipe.fingerprints
        return frozenset(column.name for column in self.work.columns if ours.get(column.name) != column.fingerprint)

    @property
    def software(self) -> Mapping[str, Mapping[str, str]] | None:
        """The software that made the snapshot; None where it is not known."""
        return right_software(self.raw.get("software"), self.versions)

    @property
    def same_software(self) -> bool:
        """Whether the software that made the snapshot is that of this process."""
        return list(self.software or ()) == [software_id(software())]
