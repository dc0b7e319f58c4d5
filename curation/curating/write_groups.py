"""Decisions as write units in order, and the totals of the units' records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, repeat, tee
from typing import Any

import numpy as np
import pyarrow as pa

from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating import decision_results, decisions, edited_samples, stale_edits, writing
from curation.curating.added_samples import AddedGroup, AddedUnit, added_groups
from curation.curating.record_spool import RecordSpool
from curation.dataset import snapshot
from curation.ledger import score_tables
from curation.ledger.plans import Plan
from curation.shards.images import DecodeLimits
from curation.storage.store import StoreOptions


@dataclass
class WrittenTotals:
    """What the groups' records add up to. Rows are kept as Arrow: about 200 bytes an output shard."""

    units: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of shards that are quarantined whole
    samples: dict[str, Any] = field(default_factory=lambda: writing.add_up([]))
    added: dict[str, Any] = field(default_factory=lambda: writing.add_up([]))  # of these, the ones that edits add
    stale: list[Mapping[str, Any]] = field(default_factory=list)  # reports of units (`stale_edits`)
    _shards: list[pa.Table] = field(default_factory=list)
    _parts: list[pa.Table] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        if record.get("added"):
            self.added = writing.add_up([self.added, record])
        else:
            self.units += len(record["inputs"])
            self.reasons.update(item["reason"] for item in record["inputs"] if item["reason"] is not None)
        self.samples = writing.add_up([self.samples, record])
        self.stale += [record[stale_edits.FIELD]] if stale_edits.FIELD in record else []
        place = {"unit": record["unit"], "order": record["inputs"][0]["key"]}
        rows = [{**shard, **place, "n": n} for n, shard in enumerate(record["shards"])]
        self._shards.append(pa.Table.from_pylist(rows, _ordered(snapshot.SHARDS_SCHEMA)))
        self._parts.append(pa.Table.from_pylist([{**record["manifest"], **place}], _ordered(snapshot.PARTS_SCHEMA)))

    def counts(self) -> dict[str, Any]:
        """Of input shards, as `SnapshotDocument.units` has them."""
        reasons = dict(sorted(self.reasons.items()))
        return {"total": self.units, "quarantined": self.reasons.total(), "reasons": reasons}

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Output shards and manifest parts, in source order, whatever order they were finished in."""
        return _sorted(self._shards, snapshot.SHARDS_SCHEMA), _sorted(self._parts, snapshot.PARTS_SCHEMA)


def _ordered(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field("order", pa.string())).append(pa.field("n", pa.int32()))


def _sorted(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    table = pa.concat_tables(tables)
    return table.sort_by([("order", "ascending"), ("n", "ascending")]).select(schema.names).combine_chunks()


@dataclass
class WriteGroups:
    """Decisions over a plan, group by group. records: the commit records of the plan's units, if all were read."""

    engine: decisions.Decisions
    plan: Plan
    columns: Sequence[score_tables.Column]
    reasons: dict[int, str] = field(default_factory=dict)  # ordinal -> reason, of broken units only
    empty: Counter[str] = field(default_factory=Counter)  # reason -> broken units without a sample
    records: RecordSpool | None = None
    caption: str = ""  # the place of captions, as a recipe's `input` names it
    added: Sequence[AddedUnit] = ()  # the samples that edits add, by marked shard
    limits: DecodeLimits = field(default_factory=DecodeLimits)  # of added samples
    options: StoreOptions | None = None  # of their stores

    def collect(self, units: Iterable[score_tables.LoadedUnit], tick: Tick) -> Iterator[tuple[int, pa.Table]]:
        """Number the units, note which are broken, keep their commit records, report progress."""
        for ordinal, (reason, table, records) in enumerate(units):
            if self.records is not None:
                self.records.add(records)
            if reason is not None:
                self.reasons[ordinal] = reason
                self.empty[reason] += not table.num_rows
            tick(table.num_rows)
            if table.num_rows:
                yield ordinal, table

    def groups(self, samples: int) -> Iterator[writing.WriteGroup | AddedGroup]:
        """The write units in order, each with its rows, then those of added samples.

        Only one group's rows are in the driver at a time.
        """
        yield from self._of_corpus(samples)
        yield from added_groups(self.added, samples, self.engine.scores, self.caption, self.limits, self.options)

    def _of_corpus(self, samples: int) -> Iterator[writing.WriteGroup]:
        shards = self.plan.shards()
        bounds, ahead = tee(writing.group_units(self._kept(), samples))  # one group apart
        records = iter(self.records) if self.records is not None else repeat(())
        edits = _EditsByUnit(decision_results.replaced(self.engine))
        for (first, last), rows in zip(bounds, decision_results.of_groups(self.engine, ahead), strict=True):
            ordinals = range(first, last + 1)
            units = [
                writing.UnitDecisions(
                    shard, own, self.reasons.get(ordinal), next(records)[: len(self.columns)], edits.of(ordinal)
                )
                for ordinal, shard, own in zip(
                    ordinals, islice(shards, len(ordinals)), _by_unit(rows, ordinals), strict=True
                )
            ]
            yield writing.WriteGroup(units, samples, self.columns, self.engine.scores, self.caption)

    def _kept(self) -> Iterator[tuple[ShardRef, int, int]]:
        """(shard, kept, rows) of every unit, also of those without rows."""
        counts = decision_results.kept_per_unit(self.engine)
        ordinal, kept, rows = next(counts, (-1, 0, 0))
        for n, shard in enumerate(self.plan.shards()):
            if n == ordinal:
                yield shard, kept, rows
                ordinal, kept, rows = next(counts, (-1, 0, 0))
            else:
                yield shard, 0, 0


class _EditsByUnit:
    """The edits that replace a value (`decision_results.replaced`), unit by unit."""

    def __init__(self, edits: pa.Table) -> None:
        self.edits = edits
        self._units = edits.column("unit").to_numpy()

    def of(self, ordinal: int) -> pa.Table | None:
        """Return the edits of a unit as `edited_samples.SCHEMA`, None without any. A copy, so that it pickles alone."""
        start, stop = np.searchsorted(self._units, [ordinal, ordinal + 1])
        if start == stop:
            return None
        return self.edits.select(edited_samples.SCHEMA.names).take(pa.array(np.arange(start, stop)))


def _by_unit(rows: pa.Table, ordinals: range) -> Iterator[pa.Table]:
    """The rows of each unit; those of `rows` are sorted by unit."""
    unit = rows.column("unit").to_numpy()
    ends = np.searchsorted(unit, [*ordinals, ordinals.stop])
    decided = rows.select(["decision", "reason", "weight"])
    return (decided.slice(start, stop - start) for start, stop in pairwise(ends.tolist()))
