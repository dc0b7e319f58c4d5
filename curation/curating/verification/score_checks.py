"""The checks of score tables: against the input shards, and a share of them against the models."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from curation.core.errors import BucketError, TutelageError
from curation.core.types import ShardRef
from curation.curating.verification import model_scores, versions
from curation.curating.verification.differences import read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.recomputed_values import Recomputed
from curation.curating.verification.score_tables import SCORED_AGAIN, CheckedUnit, ScoredCheck
from curation.curating.verification.subject import Subject
from curation.curating.verification.values import DeclaredFields
from curation.ledger.score_tables import INDEX

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass
class ScoreChecks:
    """`rescore`: the share of units whose scores are compared with the models, drawn by `seed`."""

    subject: Subject
    rescore: float = 0.0
    seed: int = 0
    samples: int = 0
    doubted: bool = False  # values of tables are wrong, and were not replaced
    whole: bool = True  # whatever was scored again could be
    records: array[int] = field(default_factory=lambda: array("Q"))  # that were checked here: 8 bytes each

    def findings(self) -> Iterator[Finding]:
        """Every finding; those of models come last."""
        subject = self.subject
        store, repairs = subject.work.scored.store, subject.repairs
        yield from versions.check_versions(store, subject.versions, repairs)
        for finding in self._tables():
            self._note(finding)
            yield finding
        if self.rescore and not subject.work.recipe.scorers.keys() - subject.stale:
            subject.notes.append("--rescore compares nothing: other versions of the software made all scores")
        elif self.rescore:
            for finding in self._rescored():
                self._note(finding)
                yield finding

    def _note(self, finding: Finding) -> None:
        wrong = finding.code in ("score_table", "score_value") or "`poison" in finding.what
        self.doubted |= wrong and not finding.mended
        self.whole &= finding.mended or finding.code not in ("score_value", "input")

    @cached_property
    def check(self) -> ScoredCheck:
        """The check of one unit."""
        work, subject = self.subject.work, self.subject
        kinds = {name: one.values() for name, one in work.recipe.scorers.items() if name not in subject.stale}
        declared = DeclaredFields(self._called(), kinds, subject.versions)
        return ScoredCheck(work.corpus.store(), work.scored, work.recipe.decoding, work.columns, subject.stale,
                           subject.repairs, declared, work.recipe.caption)  # fmt: skip

    @property
    def evidence(self) -> Recomputed:
        """Which values of score tables have been recomputed."""
        subject = self.subject
        columns = frozenset(subject.work.recipe.scorers.keys() - subject.stale) if self.whole else frozenset[str]()
        return Recomputed(
            self.check, f"{subject.out.url}@{subject.number}", self.decision, self.seed, self.rescore, columns
        )

    @property
    def decision(self) -> str:
        return str(self.subject.raw.get("decision_id"))

    def checked(self) -> npt.NDArray[np.uint64]:
        """The first 64 bits of the names of all records that were checked here, sorted."""
        return np.sort(np.frombuffer(self.records, np.uint64))

    def _called(self) -> dict[str, frozenset[str]]:
        """Fingerprint -> what plans call its column. Scores outside the dataset are others', too: of theirs, nothing is
        known."""
        columns = self.subject.work.columns
        if not str(self.subject.raw.get("scores_url")).startswith("./"):
            return {columns[0].fingerprint: frozenset({INDEX})}
        called: dict[str, set[str]] = {column.fingerprint: {column.name} for column in columns}
        out = self.subject.out
        with suppress(BucketError):
            for item in out.list("plans", etags=False):
                plan = read_object(out, item.key) if item.key.endswith(".json") else None
                prints = (plan or {}).get("fingerprints")
                for name, one in prints.items() if isinstance(prints, dict) else ():
                    called.get(one, set()).add(name)
        return {one: frozenset(names) for one, names in called.items()}

    def _tables(self) -> Iterator[Finding]:
        subject = self.subject
        if subject.stale:
            subject.notes.append(_stale_note(subject))
        otherwise = 0
        lacking: list[CheckedUnit] = []
        named: dict[str, tuple[int, str]] = {}
        with subject.shown("Checking score tables", subject.plan.units) as tick:
            readable = (shard for shard in subject.plan.shards() if shard not in subject.work.unreadable)
            for result in subject.engine.spread(self.check.check, readable):
                self.samples += result.seen
                otherwise += result.otherwise
                self.records.extend(result.records)
                for name, (count, key) in result.software.items():
                    named[name] = (named.get(name, (0, ""))[0] + count, key)
                if result.lacks and subject.repairs.id:
                    lacking.append(result)
                else:
                    yield from result.findings
                tick(1)
        if otherwise:
            subject.notes.append(f"{otherwise:,} samples can be used by one of the two versions and not by the other")
        if lacking:
            yield from self._again(lacking)
        yield from versions.check_named(subject.work.scored.store, named, subject.versions, subject.repairs)

    def _again(self, lacking: Sequence[CheckedUnit]) -> Iterator[Finding]:
        """Score what must be scored again, and check it once more."""
        why = ""
        names = sorted({name for unit in lacking for name in unit.lacks})
        try:
            self.subject.engine.again(self.subject.work, [unit.shard for unit in lacking], names)
        except TutelageError as error:
            why = f"scoring it again failed: {error}" + (f" -- {error.fix}" if error.fix else "")
        left = {
            unit.shard: unit.lacks
            for unit in self.subject.engine.spread(self.check.check, [unit.shard for unit in lacking])
        }
        for unit in lacking:
            for finding in unit.findings:
                if finding.how != SCORED_AGAIN:
                    yield finding
                elif left.get(unit.shard):
                    yield Finding(finding.code, finding.object, finding.what, "", why or "it is still damaged")
                else:
                    yield finding.done(True)

    def _rescored(self) -> Iterator[Finding]:
        """Compare a share of the scores with what the models say now."""
        subject = self.subject
        work = subject.work

        def readable() -> Iterator[ShardRef]:
            return (shard for shard in subject.plan.shards() if shard not in work.unreadable)

        def drawn() -> Iterator[ShardRef]:
            return (shard for shard in readable() if model_scores.drawn(self.decision, self.seed, shard, self.rescore))

        number = sum(1 for _ in drawn())
        some = drawn() if number else iter([next(readable())])
        with subject.shown("Scoring again", number or 1) as tick:
            names = [name for name in work.recipe.scorers if name not in subject.stale]
            for found in subject.engine.rescore(work, names, some, subject.repairs):
                yield from found
                tick(1)


def _stale_note(subject: Subject) -> str:
    """What another version of the software made, in words."""
    if INDEX in subject.stale:
        return (
            "the snapshot was made by another version of the code that decodes pictures, which is no damage: what "
            "follows from decoding (sizes, reasons, scores) is compared with stored hashes, all else is recomputed; "
            "`curate run RECIPE` decodes and scores with this version"
        )
    return f"made by another version of the software, not recomputed: {', '.join(sorted(subject.stale))}"
