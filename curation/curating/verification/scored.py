"""Score tables against the input shards: one unit at a time, its index recomputed from the shard's bytes.

The index (uids, offsets, sizes, captions, hashes, reasons) follows from the bytes and is compared row by row. Other
tables come from models: here they are checked for what binds them to the unit (key, size, etag, fingerprint, uids),
and in `rescored` for their values.

Cost: reading and decoding every input shard once, about that of scoring without a model. Memory: the rows of a unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import ChangedError, LedgerError, NotFoundError, StoreError
from curation.core.software import software, software_id
from curation.core.types import ShardRef
from curation.curating.verification.comparison import Comparison
from curation.curating.verification.differences import columns_differ, read_object
from curation.curating.verification.findings import Finding, fields_differ
from curation.curating.verification.repairs import Mender
from curation.curating.verification.values import Said, believable_poison, stored_values
from curation.ledger import score_tables as scores
from curation.ledger import unit_collector
from curation.ledger.attempts import poison_of
from curation.ledger.ledger import Ledger, unit_id
from curation.shards.images import DecodeLimits
from curation.shards.unit_reader import UnitReader
from curation.storage.store import Store

PLACES = ("row", "uid", "key", "offset", "length", "members")  # of the index; any version reads them so
CONTENTS = ("caption", "content_hash")  # the same, of samples that can be used
SCORED_AGAIN = "it is scored again by the recipe's models"
_LOST = "put these bytes back; or take what is there now: `curate run RECIPE` makes the next snapshot"
_OTHER_CODE = "another version of the software made it, which alone can score it again"


@dataclass
class CheckedUnit:
    """What was found of one unit. `lacks`: columns that must be scored again. `readable`: the input shard is there."""

    shard: ShardRef
    seen: int = 0
    findings: list[Finding] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    readable: bool = True
    otherwise: int = 0  # samples that this version of the code can use and that of the index can't, or the reverse
    software: dict[str, tuple[int, str]] = field(default_factory=dict)  # digest -> records that name it, key of one
    records: list[int] = field(default_factory=list)  # first 64 bits of the names of its records

    def note(self, key: str, record: Mapping[str, Any] | None) -> None:
        """Note that a record is checked here, and which versions it names."""
        self.records.append(int(key.removeprefix("units/")[:16], 16))
        name = record.get("software") if record else None
        if isinstance(name, str) and re.fullmatch("[0-9a-f]{16}", name):
            self.software[name] = (self.software.get(name, (0, ""))[0] + 1, key)


@dataclass(frozen=True)
class ScoredCheck:
    """Checks the tables of units. `columns`: the index, then the scores; `stale`: names of those that this version of
    the software would not make so."""

    corpus: Store
    scored: Ledger
    limits: DecodeLimits
    columns: Sequence[scores.Column]
    stale: frozenset[str]
    mend: Mender
    said: Said = field(default_factory=Said)
    caption: str = ""  # where captions stand, as the recipe's `input` names it

    def check(self, shard: ShardRef) -> CheckedUnit:
        """Compare the tables of one shard with its bytes. Raises nothing that belongs to the data."""
        result = CheckedUnit(shard)
        rows = self._rows(shard, result)
        if rows is not None and scores.INDEX not in self.stale:
            result.seen = rows.rows.num_rows
            index = self._index(rows, result)
        else:
            index = self._stored_index(shard, result, rows)
        for column in self.columns[1:]:
            result.findings += self._scores(shard, column, index, result)
        return result

    def _rows(self, shard: ShardRef, result: CheckedUnit) -> unit_collector.ScoredUnit | None:
        """The unit as it is read now; None where the input shard is not what was planned."""
        where = self.corpus.location(shard.key)
        collector = unit_collector.Collector()
        try:
            # What ended the decoder in a run is not given to it again.
            poison = poison_of(self.scored, shard, self.columns[:1]).get(self.columns[0].fingerprint, {})
            for table in UnitReader(self.corpus, self.limits, caption=self.caption, poison=poison).read(shard):
                for unit in collector.add(table):
                    return unit
        except NotFoundError:
            what = "is gone"
        except ChangedError:
            what = f"is another object: its etag is not {shard.etag}, which the plan pins"
        except StoreError as error:
            what = f"can't be read: {error}"
        result.readable = False
        result.findings.append(Finding("input", where, what, "", _LOST))
        return None

    def _index(self, unit: unit_collector.ScoredUnit, result: CheckedUnit) -> pa.Table:
        """Compare the index with what it should be; returns the latter."""
        column = self.columns[0]
        key = f"units/{unit_id(unit.shard, column.fingerprint)}.json"
        record = read_object(self.scored.store, key)
        result.note(key, record)
        ours = bool(record) and record.get("software") == software_id(software())  # type: ignore[union-attr]
        compared = self._comparison(record, column, frozenset() if ours else frozenset({"detail"}))
        scores.commit_index(compared, unit.shard, column, unit.rows, unit.reason, unit.detail)
        for finding in compared.findings:
            code = "score_record" if finding.code == "record" else finding.code
            what = f"the index of {unit.shard.key}: {finding.what}"
            result.findings.append(Finding(code, finding.object, what, finding.how, finding.why, finding.mended))
        return unit.rows.select(["uid"])

    def _named(self, unit: str, suffix: str) -> Sequence[Sequence[dict[str, Any]]]:
        record = read_object(self.scored.store, f"units/{unit}.json") or {}
        named = record.get("data")
        return [[named]] if isinstance(named, dict) and isinstance(named.get("key"), str) else []

    def details_hold(self, shard: ShardRef) -> bool:
        """Whether the index table words its details as this version of the software does."""
        try:
            stored = scores.read(self.scored, shard, self.columns[0])
        except (LedgerError, StoreError):
            return False
        unit = self._rows(shard, CheckedUnit(shard))
        rows = scores.index_table(unit.rows, unit.reason, unit.detail) if unit else stored.slice(0, 0)
        return rows.num_rows == stored.num_rows and not columns_differ(rows.select(["uid", "detail"]), stored)

    def _stored_index(
        self, shard: ShardRef, result: CheckedUnit, unit: unit_collector.ScoredUnit | None
    ) -> pa.Table | None:
        """The index as it is, where it can't be recomputed. `unit`: what another version of the code reads by now."""
        column = self.columns[0]
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        result.note(key, read_object(self.scored.store, key))
        try:
            table = scores.read(self.scored, shard, column)
        except (LedgerError, StoreError) as error:
            where = self.scored.store.location(f"units/{unit_id(shard, column.fingerprint)}.json")
            why = _LOST if not result.readable else _OTHER_CODE
            result.findings.append(Finding("score_table", where, f"the index of {shard.key}: {error}", "", why))
            return None
        result.seen = table.num_rows
        if unit is not None and (wrong := self._differing(table, unit, result)):
            where = self.scored.store.location(scores.record_of(self.scored, shard, column).data.key)
            what = f"the index of {shard.key}: {wrong}"
            result.findings.append(Finding("score_table", where, what, "", _OTHER_CODE))
        return table.select(["uid"])

    def _differing(self, stored: pa.Table, unit: unit_collector.ScoredUnit, result: CheckedUnit) -> str:
        """How an index of another version differs in what does not depend on how pictures are decoded."""
        now = scores.index_table(unit.rows, unit.reason, unit.detail)
        if now.num_rows != stored.num_rows:
            return f"has {stored.num_rows:,} rows, not {now.num_rows:,}"
        wrong = columns_differ(now.select(PLACES), stored)
        usable = [pc.is_null(table.column("reason")) for table in (now, stored)]
        result.otherwise = pc.sum(pc.xor(*usable)).as_py() or 0
        both = pc.and_(*usable)
        wrong += columns_differ(now.select(CONTENTS).filter(both), stored.filter(both))
        return fields_differ(wrong, "what is recomputed") if wrong else ""

    def _scores(
        self, shard: ShardRef, column: scores.Column, index: pa.Table | None, result: CheckedUnit
    ) -> Iterator[Finding]:
        """What is wrong with a score table and its record; says in `lacks` what only the models can mend."""
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        record = read_object(self.scored.store, key)
        result.note(key, record)
        code, where, what, values = stored_values(self.scored, shard, column, record, index)
        if values is not None and not self.said.has_kind(column, values):
            code, what, values = "score_table", f"its values are {values.type}, not what the scorer gives", None
        if values is not None and index is not None:
            compared = self._comparison(record, column)
            scores.commit_score(compared, shard, column, index.column("uid"), values, believable_poison(record, values))
            for finding in compared.findings:
                what = f"{column.name} of {shard.key}: {finding.what}"
                yield Finding("score_record", finding.object, what, finding.how, finding.why, finding.mended)
            return
        if not what:
            return
        what = f"{column.name} of {shard.key}: {what}"
        if column.name in self.stale:
            yield Finding(code, where, what, "", _OTHER_CODE)
        elif not result.readable:
            yield Finding(code, where, what, "", f"its input shard can't be scored again: {_LOST}")
        else:
            result.lacks.append(column.name)
            done = self.mend.take_out(self.scored.store, key) if record or self.scored.store.exists(key) else True
            yield Finding(code, where, what, SCORED_AGAIN).done(done and bool(self.mend.id))

    def _comparison(
        self, record: Mapping[str, Any] | None, column: scores.Column, words: frozenset[str] = frozenset()
    ) -> Comparison:
        fixed, newer = self.said.fixed(record, column), self.said.is_newer(record)
        return Comparison(self.scored.store, self.mend, self._named, what="score_table", free=True, words=words,
                          fixed=fixed, newer=newer)  # fmt: skip
