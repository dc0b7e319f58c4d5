"""Write units: commit record, output shards and manifest part, rebuilt from the input shards and the decisions.

`GroupWriter` runs again over a `Comparison`: every byte of the output shards and every row of the manifest part is made
once more and compared with what is there. Cost: the bytes of the kept samples read twice, and once hashed.

Where the decisions can't be made again, objects are compared with the hashes that documents have for them.
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
from curation.curating.verification.comparison import Comparison, Named
from curation.curating.verification.differences import columns_differ, hash_of, named_hash, read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import Mender
from curation.curating.writing import GroupWriter, WriteGroup
from curation.ledger import score_tables as scores
from curation.ledger.ledger import Ledger
from curation.ledger.unreadable import UNREADABLE
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

OTHER_DECISIONS = (
    "the score tables and the recipe give other decisions than those of the snapshot: restore the document or the "
    "tables from a backup, or make the next snapshot: `curate run RECIPE`"
)
_UNSETTLED = "the score tables and the manifest differ, and no checksum tells which is right"


@dataclass
class CheckedGroup:
    """What was found of one write unit; `record` as it should be, None where it can't be known."""

    unit: str
    record: dict[str, Any] | None = None
    blocked: str = ""  # why it can't be rebuilt
    agrees: bool = True  # its decisions are those of the snapshot
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Indexed:
    """What the snapshot's indexes have of one write unit: its name there, shards and manifest part."""

    unit: str
    shards: Sequence[Named]
    part: Named | None


class IndexedUnits:
    """The rows of the two indexes by write unit, without a Python object a shard."""

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
        """What the indexes have of a unit; of one that they don't name, what they have in its place."""
        known = unit in self._part or unit in self._runs
        other = self.parts[place] if not known and place < len(self.parts) else unit
        return self._indexed(other) if other in self._part or other in self._runs else None

    def all(self) -> Iterator[Indexed]:
        for unit in dict.fromkeys([*self.parts, *self._runs]):
            yield self._indexed(unit)

    def _indexed(self, unit: str) -> Indexed:
        start, stop = self._runs.get(unit, (0, 0))
        place = self._part.get(unit)
        part = self._table.slice(place, 1).to_pylist()[0] if place is not None else None
        return Indexed(unit, self.shards.slice(start, stop - start).to_pylist(), part)


@dataclass(frozen=True)
class WrittenCheck:
    """Checks write units; picklable, so that Ray tasks can each take one."""

    corpus: Store
    scored: Ledger
    out: Store
    mend: Mender
    anchored: bool  # the document's recipe is the one that the snapshot was made from
    free: bool  # the same software wrote the snapshot, so a rebuilt object with another hash is the right one
    newer: bool = False  # a later version wrote it, whose records may have more fields
    settled: Settled | None = None  # which values of score tables are known to be right, beyond what is stored

    def check(self, item: tuple[WriteGroup, Indexed | None]) -> CheckedGroup:
        """Rebuild a group, and compare; `item`: the group as it is decided now, and what the indexes have in its
        place."""
        group, indexed = item
        unit = group.id
        result = CheckedGroup(unit)
        record = read_object(self.out, f"units/{unit}.json")
        result.agrees = self._known(unit, record, indexed)
        frozen = "" if result.agrees else OTHER_DECISIONS
        named = _Candidates(indexed, record)
        contested = None if frozen else _Contested(group, self.settled).why
        compared = Comparison(self.out, self.mend, named, what="manifest_part", frozen=frozen, free=self.free,
                              newer=self.newer, contested=contested)  # fmt: skip
        try:
            made = GroupWriter(self.corpus, self.scored, compared).write(group)
            result.record = {name: value for name, value in made.items() if name not in ("unit", "made")}
        except (LedgerError, StoreError) as error:  # an input or a score table, which has a finding of its own
            result.blocked = str(error)
            result.findings = self.check_stored(indexed).findings if indexed else []
            return result
        result.findings = compared.findings
        return result

    def _known(self, unit: str, record: Mapping[str, Any] | None, indexed: Indexed | None) -> bool:
        """Whether the snapshot has these very decisions: a unit's name is a hash over them."""
        return self.anchored and (indexed is None or indexed.unit == unit or record is not None)

    def check_stored(self, indexed: Indexed) -> CheckedGroup:
        """Compare the objects of a unit with the hashes in the snapshot's indexes: all that can be done without the
        inputs."""
        result = CheckedGroup(indexed.unit)
        for code, item in [("shard", shard) for shard in indexed.shards] + [("manifest_part", indexed.part)]:
            if item is None or (found := hash_of(self.out, item["key"])) == (item["sha256"], item["bytes"]):
                continue
            what = "is gone" if found is None else "its sha256 or size is not that of the snapshot's index"
            why = "its inputs can't be read: see the other findings"
            result.findings.append(Finding(code, self.out.location(item["key"]), what, "", why))
        return result


class Settled(Protocol):
    """What is known of values that are stored twice, in score tables and in the manifest."""

    def scores(self, shards: Sequence[ShardRef], columns: Collection[scores.Column]) -> str:
        """Empty where the score tables hold what the models give; else why that is not known."""

    def details(self, shards: Sequence[ShardRef]) -> str:
        """Empty where the index tables word details as the input shards give them; else why that is not known."""


@dataclass(frozen=True)
class _Contested:
    """Whether a manifest part may be rebuilt from the score tables: their values are no more trusted than its own.

    It may where nothing but what follows from the inputs differs; where what is rebuilt is proved by the name and the
    sha256 that a document has; and where values have been recomputed (`settled`).
    """

    group: WriteGroup
    settled: Settled | None

    def why(self, key: str, data: bytes, actual: bytes | None, candidates: Sequence[Named]) -> str:
        sha = sha256(data).hexdigest()
        if any(item.get("sha256") == sha and named_hash(str(item["key"])) == sha[:16] for item in candidates):
            return ""
        fields = self._differing(data, actual)
        columns = [one for one in self.group.columns[1:] if any(_made_by(one, name) for name in fields)]
        shards = [unit.shard for unit in self.group.units if unit.reason not in UNREADABLE]
        if columns and (why := self.settled.scores(shards, columns) if self.settled else _UNSETTLED):
            return why
        return (self.settled.details(shards) if self.settled else _UNSETTLED) if "detail" in fields else ""

    def _differing(self, data: bytes, actual: bytes | None) -> list[str]:
        """Columns in which the part that is there differs; all of one that can't be read row by row."""
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


def _made_by(column: scores.Column, name: str) -> bool:
    return name == column.name or name.startswith(f"{column.name}.")


@dataclass(frozen=True)
class _Candidates:
    """The objects that indexes and record name for a unit."""

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
