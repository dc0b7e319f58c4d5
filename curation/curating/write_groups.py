"""What a decision is handed on as: write units in order, and what their records add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, repeat, tee
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.core.digest import canonical
from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating import decision_results, decisions, writing
from curation.dataset import snapshot
from curation.ledger import score_tables
from curation.ledger.documents import ScoreRecord
from curation.ledger.plans import Plan
from curation.storage.tables import local_disk


@dataclass
class WrittenTotals:
    """What the groups' records add up to. Rows are kept as Arrow: about 200 bytes an output shard."""

    units: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of shards that are quarantined whole
    samples: dict[str, Any] = field(default_factory=lambda: writing.add_up([]))
    _shards: list[pa.Table] = field(default_factory=list)
    _parts: list[pa.Table] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        self.units += len(record["inputs"])
        self.reasons.update(item["reason"] for item in record["inputs"] if item["reason"] is not None)
        self.samples = writing.add_up([self.samples, record])
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


class RecordSpool:
    """The commit records of all units in order, on local disk: a line of about 500 bytes for each unit and column.

    The decision engine reads each record once; the writers receive it from here and do not ask the store again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def add(self, records: Sequence[ScoreRecord]) -> None:
        """Append the records of the next unit; none for a unit that has no tables."""
        with local_disk("the records of score tables"):
            self._file.write(b"\t".join(canonical(record.to_json()) for record in records) + b"\n")

    def __iter__(self) -> Iterator[list[ScoreRecord]]:
        self._file.flush()
        with self._path.open("rb") as file:
            for line in file:
                yield [ScoreRecord.model_validate_json(text) for text in line.rstrip(b"\n").split(b"\t") if text]

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@dataclass
class WriteGroups:
    """Decisions over a plan, handed out group by group. `records`: of the plan's units, where they were all read."""

    engine: decisions.Decisions
    plan: Plan
    columns: Sequence[score_tables.Column]
    reasons: dict[int, str] = field(default_factory=dict)  # ordinal -> reason, of broken units only
    empty: Counter[str] = field(default_factory=Counter)  # reason -> broken units without a sample
    records: RecordSpool | None = None

    def collect(self, units: Iterator[tuple[str | None, pa.Table]], tick: Tick) -> Iterator[tuple[int, pa.Table]]:
        """Number the units, remember which are broken, report progress."""
        for ordinal, (reason, table) in enumerate(units):
            if reason is not None:
                self.reasons[ordinal] = reason
                self.empty[reason] += not table.num_rows
            tick(table.num_rows)
            if table.num_rows:
                yield ordinal, table

    def groups(self, samples: int) -> Iterator[writing.WriteGroup]:
        """The write units in order, each with its rows; only one group's rows are in the driver at a time."""
        shards = self.plan.shards()
        bounds, ahead = tee(writing.group_units(self._kept(), samples))  # one group apart
        records = iter(self.records) if self.records is not None else repeat(())
        for (first, last), rows in zip(bounds, decision_results.of_groups(self.engine, ahead), strict=True):
            ordinals = range(first, last + 1)
            units = [
                writing.UnitDecisions(shard, own, self.reasons.get(ordinal), next(records))
                for ordinal, shard, own in zip(
                    ordinals, islice(shards, len(ordinals)), _by_unit(rows, ordinals), strict=True
                )
            ]
            yield writing.WriteGroup(units, samples, self.columns, self.engine.scores)

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


def _by_unit(rows: pa.Table, ordinals: range) -> Iterator[pa.Table]:
    """The rows of each unit; those of `rows` are sorted by unit."""
    unit = rows.column("unit").to_numpy()
    ends = np.searchsorted(unit, [*ordinals, ordinals.stop])
    told = rows.select(["decision", "reason", "weight"])
    return (told.slice(start, stop - start) for start, stop in pairwise(ends.tolist()))
