"""The checks of several snapshots of one dataset, newest first: what they share is checked once.

Snapshots share score tables, write units and shards. The engine that carries out the checks remembers which units it
found sound or repaired, and passes over them for the next snapshot; decisions, indexes and documents are each
snapshot's own. Cost, beside that of the newest snapshot: what it does not share, and the filters of each. Memory of the
driver: 200 bytes an input shard and 100 a write unit.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any

from curation.core.digest import canonical
from curation.core.types import ShardRef
from curation.curating.verification.differences import read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.score_tables import CheckedUnit, ScoredCheck
from curation.curating.verification.subject import CheckRunner
from curation.curating.verification.write_units import CheckedGroup, Indexed, WrittenCheck
from curation.curating.writing import WriteGroup

if TYPE_CHECKING:
    from curation.curating.pipeline import Pipeline
    from curation.curating.verification.checks import Checks


_KNOWN = ShardRef("", 0, "")


@dataclass(frozen=True)
class Remembering(CheckRunner):
    """A runner that checks no unit twice."""

    _bits: dict[str, int] = field(default_factory=dict)  # of a fingerprint
    _tables: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # input shard -> bits of its columns, samples
    _rescored: dict[bytes, int] = field(default_factory=dict)  # input shard -> bits of columns
    _written: set[bytes] = field(default_factory=set)

    def spread(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """As a `CheckRunner` does it, without the units that are known: their results have no findings, and those of
        input shards come last and do not name the shard."""
        match getattr(function, "__self__", None):
            case ScoredCheck() as check if function.__name__ == "check":
                yield from self._spread_tables(check, items)
            case WrittenCheck() as check if function.__name__ == "check":
                yield from self._spread_written(check, items)
            case _:
                yield from super().spread(function, items)

    def rescore(
        self, work: Pipeline, names: Sequence[str], shards: Iterable[ShardRef], repairs: RepairWriter
    ) -> Iterator[list[Finding]]:
        """As a `CheckRunner` does it, without the units whose columns were compared with these models."""
        mask = self._mask(column.fingerprint for column in work.columns if column.name in names)

        def unknown() -> Iterator[ShardRef]:
            for shard in shards:
                name = _name(work.corpus.store().url, work.scored.store.url, shard)
                known = self._rescored.get(name, 0)
                if mask & ~known:
                    self._rescored[name] = known | mask
                    yield shard

        left = unknown()
        for first in left:  # no model is loaded where nothing is left
            yield from super().rescore(work, names, chain([first], left), repairs)

    def _spread_tables(self, check: ScoredCheck, shards: Iterable[ShardRef]) -> Iterator[CheckedUnit]:
        mask = self._mask(column.fingerprint for column in check.columns)
        places = check.corpus.url, check.scored.store.url
        known = array("q")  # samples of each unit that is passed over

        def unknown() -> Iterator[ShardRef]:
            for shard in shards:
                bits, seen = self._tables.get(_name(*places, shard), (0, 0))
                if mask & ~bits:
                    yield shard
                else:
                    known.append(seen)

        for result in super().spread(check.check, unknown()):
            if not result.lacks and all(item.mended for item in result.findings):
                name = _name(*places, result.shard)
                self._tables[name] = self._tables.get(name, (0, 0))[0] | mask, result.seen
            yield result
        yield from (CheckedUnit(_KNOWN, seen) for seen in known)

    def _spread_written(
        self, check: WrittenCheck, pairs: Iterable[tuple[WriteGroup, Indexed | None]]
    ) -> Iterator[CheckedGroup]:
        """In the order of the groups, since indexes are."""

        def item(pair: tuple[WriteGroup, Indexed | None]) -> tuple[bool, Any]:
            return (bytes.fromhex(pair[0].id[:32]) in self._written), pair

        for result in super().spread(_Written(check), map(item, pairs)):
            if result.record is not None and all(item.mended for item in result.findings):
                self._written.add(bytes.fromhex(result.unit[:32]))
            yield result

    def _mask(self, fingerprints: Iterable[str]) -> int:
        return sum(1 << self._bits.setdefault(one, len(self._bits)) for one in set(fingerprints))


@dataclass(frozen=True)
class _Written:
    """The check of a write unit; of one that is known, its record as it is."""

    check: WrittenCheck

    def __call__(self, item: tuple[bool, tuple[WriteGroup, Indexed | None]]) -> CheckedGroup:
        known, pair = item
        if known and (record := read_object(self.check.out, f"units/{pair[0].id}.json")) is not None:
            return CheckedGroup(pair[0].id, record, agrees=self.check.anchored)
        return self.check.check(pair)


def _name(corpus: str, scored: str, shard: ShardRef) -> bytes:
    return sha256(canonical([corpus, scored, *shard])).digest()[:16]


@dataclass(frozen=True)
class AllChecks:
    """Several checks as one. Those of one dataset, newest first; they share an engine."""

    parts: Sequence[Checks]

    def findings(self) -> Iterator[Finding]:
        """Every finding, each once: an object that two snapshots have is damaged in both."""
        told = set[tuple[str, str]]()
        for part in self.parts:
            for finding in part.findings():
                if (finding.object, finding.what) not in told:
                    told.add((finding.object, finding.what))
                    yield finding

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(note for part in self.parts for note in part.notes))

    @property
    def lost(self) -> list[range]:
        return [numbers for part in self.parts for numbers in part.lost]

    @property
    def samples(self) -> int:
        return self.parts[0].samples

    @property
    def shards(self) -> int:
        return self.parts[0].shards
