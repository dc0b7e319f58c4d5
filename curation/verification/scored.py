"""Score tables against the input shards: one unit at a time, its index recomputed from the shard's bytes.

The index (uids, offsets, sizes, captions, hashes, reasons) follows from the bytes and is compared row by row. Other
tables come from models: here they are checked for what binds them to the unit (key, size, etag, fingerprint, uids),
and in `rescored` for their values.

Cost: reading and decoding every input shard once, about that of scoring without a model. Memory: the rows of a unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import scores
from curation.attempts import REASONS, poison_of
from curation.data import ShardRef
from curation.errors import ChangedError, LedgerError, NotFoundError, StoreError
from curation.images import DecodeLimits
from curation.ledger import Ledger, unit_id
from curation.parquet import from_parquet
from curation.store import Store
from curation.units import UnitReader
from curation.verification.comparison import Comparison
from curation.verification.differences import named_hash, read_object
from curation.verification.findings import Finding, fields_differ
from curation.verification.repairs import Mender

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
    caption: str = ""  # where captions stand, as the recipe's `input` names it

    def check(self, shard: ShardRef) -> CheckedUnit:
        """Compare the tables of one shard with its bytes. Raises nothing that belongs to the data."""
        result = CheckedUnit(shard)
        rows = self._rows(shard, result)
        if rows is not None and scores.INDEX not in self.stale:
            result.seen = rows.rows.num_rows
            index = self._index(rows, result)
        else:
            index = self._stored_index(shard, result)
        for column in self.columns[1:]:
            result.findings += self._scores(shard, column, index, result)
        return result

    def _rows(self, shard: ShardRef, result: CheckedUnit) -> scores.ScoredUnit | None:
        """The unit as it is read now; None where the input shard is not what was planned."""
        where = self.corpus.location(shard.key)
        collector = scores.Collector()
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

    def _index(self, unit: scores.ScoredUnit, result: CheckedUnit) -> pa.Table:
        """Compare the index with what it should be; returns the latter."""
        column = self.columns[0]
        options = {"what": "score_table", "free": True, "words": frozenset({"detail"})}
        compared = Comparison(self.scored.store, self.mend, self._named, **options)  # type: ignore[arg-type]
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

    def _stored_index(self, shard: ShardRef, result: CheckedUnit) -> pa.Table | None:
        """The index as it is, where it can't be recomputed."""
        column = self.columns[0]
        try:
            table = scores.read(self.scored, shard, column, ["uid"])
        except (LedgerError, StoreError) as error:
            where = self.scored.store.location(f"units/{unit_id(shard, column.fingerprint)}.json")
            why = _LOST if not result.readable else _OTHER_CODE
            result.findings.append(Finding("score_table", where, f"the index of {shard.key}: {error}", "", why))
            return None
        result.seen = table.num_rows
        return table

    def _scores(
        self, shard: ShardRef, column: scores.Column, index: pa.Table | None, result: CheckedUnit
    ) -> Iterator[Finding]:
        """What is wrong with a score table and its record; says in `lacks` what only the models can mend."""
        key = f"units/{unit_id(shard, column.fingerprint)}.json"
        record = read_object(self.scored.store, key)
        code, where, what, values = self._table(shard, column, key, record, index)
        if values is not None and index is not None:
            compared = Comparison(self.scored.store, self.mend, self._named, what="score_table", free=True)
            poison = _poison(record, values)
            scores.commit_score(compared, shard, column, index.column("uid"), values, poison)
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
            yield Finding(code, where, what, "it is scored again by the recipe's models").done(
                done and bool(self.mend.id)
            )

    def _table(
        self, shard: ShardRef, column: scores.Column, key: str, record: dict[str, Any] | None, index: pa.Table | None
    ) -> tuple[str, str, str, pa.ChunkedArray | None]:
        """(code, place, what is wrong with it, its values): values where the table is whole and belongs to the unit."""
        store = self.scored.store
        if record is None:
            there = "is not the JSON of a record" if store.exists(key) else "has not been scored, or its record is gone"
            return "score_record", store.location(key), there, None
        named = record.get("data")
        data_key = str(named.get("key", "")) if isinstance(named, dict) else ""
        if not data_key.startswith(f"data/{unit_id(shard, column.fingerprint)}-"):
            wanted = {**shard._asdict(), "fingerprint": column.fingerprint}
            wrong = [name for name, value in wanted.items() if record.get(name) != value]
            return (
                "score_record",
                store.location(key),
                fields_differ([*wrong, "data.key"], "the unit's"),
                None,
            )
        where = store.location(data_key)
        try:
            data = store.get(data_key)
        except NotFoundError:
            return "score_table", where, "is gone", None
        if sha256(data).hexdigest()[:16] != named_hash(data_key):
            return "score_table", where, "its bytes are not those of its name", None
        try:
            table = from_parquet(data, ["uid", "value"])
        except (pa.ArrowException, OSError, KeyError, ValueError):
            return "score_table", where, "is no Parquet of uids and values", None
        if index is None:
            return "score_table", where, "", None
        if not table.column("uid").equals(index.column("uid")):
            return "score_table", where, "its uids are not those of the unit", None
        return "", where, "", table.column("value")


def _poison(record: Mapping[str, Any] | None, values: pa.ChunkedArray) -> dict[int, str]:
    """Those rows of a record's `poison` that can be true: only a run finds out why a value is null, so the record is
    believed where its row and its reason exist and the row has no value."""
    said = record.get("poison") if record else None
    if not isinstance(said, Mapping):
        return {}
    rows = {str(row) for row in pc.indices_nonzero(pc.invert(scores.has_value(values))).to_pylist()}
    return {int(row): why for row, why in said.items() if row in rows and isinstance(why, str) and why in REASONS}
