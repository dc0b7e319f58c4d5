"""Checks of score tables against the input shards, one unit at a time.

The index (uids, offsets, sizes, captions, hashes, reasons) is recomputed from the shard's bytes and compared row by
row. The other tables come from models: this module checks what binds them to the unit (key, size, etag, fingerprint,
uids), and `model_scores` their values.

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
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.values import DeclaredFields, believable_poison, stored_values
from curation.ledger import score_tables, unit_collector
from curation.ledger.attempts import poison_of
from curation.ledger.ledger import Ledger, unit_id
from curation.shards.images import DecodeLimits
from curation.shards.unit_reader import UnitReader
from curation.storage.store import Store

PLACES = ("row", "uid", "key", "offset", "length", "members")  # columns of the index that all versions compute equally
CONTENTS = ("caption", "content_hash")  # such columns of usable samples
SCORED_AGAIN = "it is scored again by the recipe's models"
_LOST = "restore these bytes, or use the present object: `curate run RECIPE` creates the next snapshot"
_OTHER_CODE = "another version of the software created it, and only that version can score it again"


@dataclass
class CheckedUnit:
    """Result of the check of one unit.

    `seen`: its samples. `lacks`: columns that must be scored again. `readable`: whether the input shard is as planned.
    """

    shard: ShardRef
    seen: int = 0
    findings: list[Finding] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    readable: bool = True
    otherwise: int = 0  # samples that are usable for this version of the code or for the index's, but not for both
    software: dict[str, tuple[int, str]] = field(default_factory=dict)  # digest -> number of records with it, one's key
    records: list[int] = field(default_factory=list)  # first 64 bits of the names of its records

    def note(self, key: str, record: Mapping[str, Any] | None) -> None:
        """Note a checked record and the software versions that it references."""
        self.records.append(int(key.removeprefix("units/")[:16], 16))
        name = record.get("software") if record else None
        if isinstance(name, str) and re.fullmatch("[0-9a-f]{16}", name):
            self.software[name] = (self.software.get(name, (0, ""))[0] + 1, key)


@dataclass(frozen=True)
class ScoredCheck:
    """Check of the score tables of units.

    `columns`: the index, then the scores. `stale`: names of the columns that this version of the software computes
    differently. `declared`: the permitted values of fields that score records declare.
    """

    corpus: Store
    scored: Ledger
    limits: DecodeLimits
    columns: Sequence[score_tables.Column]
    stale: frozenset[str]
    repairs: RepairWriter
    declared: DeclaredFields = field(default_factory=DeclaredFields)
    caption: str = ""  # location of captions in a sample, from the recipe's `input`

    def check(self, shard: ShardRef) -> CheckedUnit:
        """Compare the tables of one shard with its bytes. Damaged data become findings, never exceptions."""
        result = CheckedUnit(shard)
        rows = self._rows(shard, result)
        if rows is not None and score_tables.INDEX not in self.stale:
            result.seen = rows.rows.num_rows
            index = self._index(rows, result)
        else:
            index = self._stored_index(shard, result, rows)
        for column in self.columns[1:]:
            result.findings += self._scores(shard, column, index, result)
        return result

    def _rows(self, shard: ShardRef, result: CheckedUnit) -> unit_collector.ScoredUnit | None:
        """Read the unit now; None, with a finding, when the input shard is not the planned one."""
        where = self.corpus.location(shard.key)
        collector = unit_collector.Collector()
        try:
            # Samples that killed the decoder in a run are not decoded again.
            poison = poison_of(self.scored, shard, self.columns[:1]).get(self.columns[0].fingerprint, {})
            for table in UnitReader(self.corpus, self.limits, caption=self.caption, poison=poison).read(shard):
                for unit in collector.add(table):
                    return unit
        except NotFoundError:
            what = "is missing"
        except ChangedError:
            what = f"is another object: its etag is not {shard.etag}, which the plan pins"
        except StoreError as error:
            what = f"can't be read: {error}"
        result.readable = False
        result.findings.append(Finding("input", where, what, "", _LOST))
        return None

    def _index(self, unit: unit_collector.ScoredUnit, result: CheckedUnit) -> pa.Table:
        """Compare the stored index with the recomputed one; return the uids of the latter."""
        column = self.columns[0]
        key = f"units/{unit_id(unit.shard, column.fingerprint)}.json"
        record = read_object(self.scored.store, key)
        result.note(key, record)
        ours = bool(record) and record.get("software") == software_id(software())  # type: ignore[union-attr]
        compared = self._comparison(record, column, frozenset() if ours else frozenset({"detail"}))
        score_tables.commit_index(compared, unit.shard, column, unit.rows, unit.reason, unit.detail)
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
        """Whether the index table has the same details as this version of the software computes."""
        try:
            stored = score_tables.read(self.scored, shard, self.columns[0])
        except (LedgerError, StoreError):
            return False
        unit = self._rows(shard, CheckedUnit(shard))
        rows = score_tables.index_table(unit.rows, unit.reason, unit.detail) if unit else stored.slice(0, 0)
        return rows.num_rows == stored.num_rows and not columns_differ(rows.select(["uid", "detail"]), stored)

    def _stored_index(
        self, shard: ShardRef, result: CheckedUnit, unit: unit_collector.ScoredUnit | None
    ) -> pa.Table | None:
        """Uids of the stored index, where it can't be recomputed; None when it is missing or damaged.

        `unit`: the shard as this version of the code reads it.
        """
        column = self.columns[0]
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        result.note(key, read_object(self.scored.store, key))
        try:
            table = score_tables.read(self.scored, shard, column)
        except (LedgerError, StoreError) as error:
            where = self.scored.store.location(f"units/{unit_id(shard, column.fingerprint)}.json")
            why = _LOST if not result.readable else _OTHER_CODE
            result.findings.append(Finding("score_table", where, f"the index of {shard.key}: {error}", "", why))
            return None
        result.seen = table.num_rows
        if unit is not None and (wrong := self._differing(table, unit, result)):
            where = self.scored.store.location(score_tables.record_of(self.scored, shard, column).data.key)
            what = f"the index of {shard.key}: {wrong}"
            result.findings.append(Finding("score_table", where, what, "", _OTHER_CODE))
        return table.select(["uid"])

    def _differing(self, stored: pa.Table, unit: unit_collector.ScoredUnit, result: CheckedUnit) -> str:
        """Describe how an index of another version differs in columns that don't depend on image decoding."""
        now = score_tables.index_table(unit.rows, unit.reason, unit.detail)
        if now.num_rows != stored.num_rows:
            return f"has {stored.num_rows:,} rows, not {now.num_rows:,}"
        wrong = columns_differ(now.select(PLACES), stored)
        usable = [pc.is_null(table.column("reason")) for table in (now, stored)]
        result.otherwise = pc.sum(pc.xor(*usable)).as_py() or 0
        both = pc.and_(*usable)
        wrong += columns_differ(now.select(CONTENTS).filter(both), stored.filter(both))
        return fields_differ(wrong, "the recomputed values") if wrong else ""

    def _scores(
        self, shard: ShardRef, column: score_tables.Column, index: pa.Table | None, result: CheckedUnit
    ) -> Iterator[Finding]:
        """Yield findings of a score table and its record; add columns that only the models can repair to `lacks`."""
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        record = read_object(self.scored.store, key)
        result.note(key, record)
        code, where, what, values = stored_values(self.scored, shard, column, record, index)
        if values is not None and not self.declared.has_kind(column, values):
            code, what, values = "score_table", f"its values have type {values.type}, the scorer gives another", None
        if values is not None and index is not None:
            compared = self._comparison(record, column)
            score_tables.commit_score(
                compared, shard, column, index.column("uid"), values, believable_poison(record, values)
            )
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
            done = self.repairs.take_out(self.scored.store, key) if record or self.scored.store.exists(key) else True
            yield Finding(code, where, what, SCORED_AGAIN).done(done and bool(self.repairs.id))

    def _comparison(
        self, record: Mapping[str, Any] | None, column: score_tables.Column, words: frozenset[str] = frozenset()
    ) -> Comparison:
        fixed, newer = self.declared.fixed(record, column), self.declared.is_newer(record)
        return Comparison(self.scored.store, self.repairs, self._named, what="score_table", free=True, words=words,
                          fixed=fixed, newer=newer)  # fmt: skip
