"""Checks of write units: commit record, output shards and manifest part, rebuilt from input shards and decisions.

`GroupWriter` runs again over a `Comparison`: every byte of the output shards and every row of the manifest part is
recomputed and compared with the stored one. Cost: the bytes of the kept samples are read twice and hashed once.

Where the decisions can't be recomputed, objects are compared with their hashes in documents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, StoreError
from curation.core.types import ShardRef
from curation.curating.added_samples import AddedGroup
from curation.curating.verification.comparison import Comparison, Named
from curation.curating.verification.differences import columns_differ, hash_of, named_hash, read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.curating.writing import GroupWriter, WriteGroup
from curation.ledger import score_tables
from curation.ledger.ledger import Ledger
from curation.ledger.unreadable import UNREADABLE
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

OTHER_DECISIONS = (
    "the score tables and the recipe give other decisions than those of the snapshot: restore the document or the "
    "tables from a backup, or create the next snapshot: `curate run RECIPE`"
)
_UNPROVED = "the score tables and the manifest differ, and no checksum tells which is right"


@dataclass
class CheckedGroup:
    """Result of the check of one write unit. `record`: the right commit record, None where it is unknown."""

    unit: str
    record: dict[str, Any] | None = None
    blocked: str = ""  # the reason why the unit can't be rebuilt
    agrees: bool = True  # whether its decisions are those of the snapshot
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Indexed:
    """Entries of one write unit in the snapshot's indexes: its name, its shards and its manifest part."""

    unit: str
    shards: Sequence[Named]
    part: Named | None


class IndexedUnits:
    """The rows of the two indexes by write unit, without a Python object for each shard."""

    def __init__(self, shards: pa.Table, parts: pa.Table) -> None:
        self.shards, self.parts = shards, parts.column("unit").to_pylist()
        self._table = parts
        self._part = {unit: place for place, unit in reversed(list(enumerate(self.parts)))}
        self._runs: dict[str, tuple[int, int]] = {}
        ends = pc.run_end_encode(shards.column("unit").combine_chunks()) if shards.num_rows else None
        start = 0
        for stop, unit in zip(ends.run_ends.to_pylist(), ends.values.to_pylist(), strict=True) if ends else ():
            self._runs[unit], start = (start, stop), stop

    def of(self, unit: str, place: int) -> Indexed | None:
        """Entries of a unit in the indexes; for a unit without entries, those of the unit in its place."""
        known = unit in self._part or unit in self._runs
        other = self.parts[place] if not known and place < len(self.parts) else unit
        return self._indexed(other) if other in self._part or other in self._runs else None

    def all(self) -> Iterator[Indexed]:
        """Yield the entries of all units."""
        for unit in dict.fromkeys([*self.parts, *self._runs]):
            yield self._indexed(unit)

    def _indexed(self, unit: str) -> Indexed:
        start, stop = self._runs.get(unit, (0, 0))
        place = self._part.get(unit)
        part = self._table.slice(place, 1).to_pylist()[0] if place is not None else None
        return Indexed(unit, self.shards.slice(start, stop - start).to_pylist(), part)


@dataclass(frozen=True)
class WrittenCheck:
    """Check of write units; picklable, so that it can go to tasks."""

    corpus: Store
    scored: Ledger
    out: Store
    repairs: RepairWriter
    anchored: bool  # whether the document's recipe is proved to be the one that created the snapshot
    free: bool  # whether this software wrote the snapshot, so that a rebuilt object with another hash is right
    newer: bool = False  # whether a later version wrote it, whose records may have more fields
    evidence: RecomputedEvidence | None = None  # evidence for values of score tables

    def check(self, item: tuple[WriteGroup | AddedGroup, Indexed | None]) -> CheckedGroup:
        """Rebuild a write unit and compare. `item`: the group as decided now, and the indexes' entries in its place."""
        group, indexed = item
        unit = group.id
        result = CheckedGroup(unit)
        record = read_object(self.out, f"units/{unit}.json")
        result.agrees = self._known(unit, record, indexed)
        frozen = "" if result.agrees else OTHER_DECISIONS
        named = _Candidates(indexed, record)
        contested = None if frozen or isinstance(group, AddedGroup) else _Contested(group, self.evidence).why
        compared = Comparison(self.out, self.repairs, named, what="manifest_part", frozen=frozen, free=self.free,
                              newer=self.newer, contested=contested)  # fmt: skip
        try:
            made = GroupWriter(self.corpus, self.scored, compared).write(group)
            result.record = {name: value for name, value in made.items() if name not in ("unit", "made")}
        except (LedgerError, StoreError) as error:  # an input or a score table, which has its own finding
            result.blocked = str(error)
            result.findings = self.check_stored(indexed).findings if indexed else []
            return result
        result.findings = compared.findings
        return result

    def _known(self, unit: str, record: Mapping[str, Any] | None, indexed: Indexed | None) -> bool:
        """Whether these are the snapshot's decisions: a unit's name contains their hash."""
        return self.anchored and (indexed is None or indexed.unit == unit or record is not None)

    def check_stored(self, indexed: Indexed) -> CheckedGroup:
        """Compare the objects of a unit with their hashes in the snapshot's indexes, where the inputs are missing."""
        result = CheckedGroup(indexed.unit)
        for code, item in [("shard", shard) for shard in indexed.shards] + [("manifest_part", indexed.part)]:
            if item is None or (found := hash_of(self.out, item["key"])) == (item["sha256"], item["bytes"]):
                continue
            what = "is missing" if found is None else "its sha256 or size differs from the snapshot's index"
            why = "its inputs can't be read: see the other findings"
            result.findings.append(Finding(code, self.out.location(item["key"]), what, "", why))
        return result


class RecomputedEvidence(Protocol):
    """Evidence for values that are stored twice, in score tables and in the manifest."""

    def scores(self, shards: Sequence[ShardRef], columns: Collection[score_tables.Column]) -> str:
        """Return "" when the score tables are proved to have the models' values, else why not."""

    def details(self, shards: Sequence[ShardRef]) -> str:
        """Return "" when the index tables are proved to have the details of the input shards, else why not."""


@dataclass(frozen=True)
class _Contested:
    """Decision whether a manifest part may be rebuilt from score tables, whose values are no more trusted than its own.

    It may when only columns differ that follow from the inputs, when the rebuilt bytes have the name and the sha256
    that a document references, and when the differing values have been recomputed (`evidence`).
    """

    group: WriteGroup
    evidence: RecomputedEvidence | None

    def why(self, key: str, data: bytes, actual: bytes | None, candidates: Sequence[Named]) -> str:
        """Return the reason why the part may not be rebuilt, or ""."""
        sha = sha256(data).hexdigest()
        if any(item.get("sha256") == sha and named_hash(str(item["key"])) == sha[:16] for item in candidates):
            return ""
        fields = self._differing(data, actual)
        columns = [one for one in self.group.columns[1:] if any(_made_by(one, name) for name in fields)]
        shards = [unit.shard for unit in self.group.units if unit.reason not in UNREADABLE]
        if columns and (why := self.evidence.scores(shards, columns) if self.evidence else _UNPROVED):
            return why
        return (self.evidence.details(shards) if self.evidence else _UNPROVED) if "detail" in fields else ""

    def _differing(self, data: bytes, actual: bytes | None) -> list[str]:
        """Columns in which the stored part differs; all columns when it can't be compared row by row."""
        expected = from_parquet(data)
        names: list[str] = expected.column_names
        try:
            found = from_parquet(actual or b"")
        except (pa.ArrowException, OSError, ValueError):
            return names
        if "uid" not in found.column_names:
            return names
        place = pc.index_in(expected.column("uid"), found.column("uid").combine_chunks())
        return names if place.null_count else columns_differ(expected, found.take(place))


def _made_by(column: score_tables.Column, name: str) -> bool:
    return name == column.name or name.startswith(f"{column.name}.")


@dataclass(frozen=True)
class _Candidates:
    """The references to a unit's objects in the indexes and in its record."""

    indexed: Indexed | None
    record: Mapping[str, Any] | None

    def __call__(self, unit: str, suffix: str) -> Sequence[Sequence[Named]]:
        if suffix == "tar":
            shards = (self.indexed.shards if self.indexed else (), _shards(self.record))
            return [[some[n] for some in shards if n < len(some)] for n in range(max(map(len, shards)))]
        parts = [self.indexed.part if self.indexed else None, self.record.get("manifest") if self.record else None]
        return [[part for part in parts if isinstance(part, Mapping) and isinstance(part.get("key"), str)]]


def _shards(record: Mapping[str, Any] | None) -> Sequence[Named]:
    shards = record.get("shards") if record else None
    found = shards if isinstance(shards, list) else []
    return [item for item in found if isinstance(item, Mapping) and isinstance(item.get("key"), str)]
