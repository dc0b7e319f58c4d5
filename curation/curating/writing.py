"""Write kept samples into output shards whose bytes are a pure function of the manifest.

Input units are grouped into *write units*; each becomes one commit record that names its output shards and its part of
the manifest. Where a group ends depends on the units near it only (content-defined), so a new input shard rewrites the
output around it and nothing else. Original bytes are copied by coalesced ranged reads with If-Match and never
re-encoded; a sample's json gains one key, `tutelage`, with its uid and source, spliced in: its other bytes stay.

Cost per kept sample: its bytes in and out once, and their sha256; 10 us, of which 2 us are Python (see
`written_samples`). Memory: three reads of at most 8 MiB and a sample. On local disk: an output shard that goes to an
object store, and an input shard whose samples' members are not adjacent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import digest
from curation.core.origins import REAL
from curation.core.types import ShardRef
from curation.curating.annotation import annotate
from curation.curating.edited_samples import StaleEdit, edits_by_row
from curation.curating.stale_edits import stale_report
from curation.curating.tally import KEPT, tally
from curation.curating.written_samples import WrittenSamples
from curation.ledger import manifest_schema, score_tables
from curation.ledger.documents import ScoreRecord, WriteRecord
from curation.ledger.ledger import Ledger
from curation.ledger.unreadable import UNREADABLE
from curation.shards.tar import END_BLOCKS
from curation.shards.tar_blocks import Integers
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.parquet import to_parquet
from curation.storage.store import Piece, Store

WRITER_VERSION = 1
GROUP_ROWS = 1 << 20
GROUP_UNITS = 256


@dataclass(frozen=True)
class UnitDecisions:
    """One input unit with its decisions.

    rows: decision, reason and weight, in order. reason: the unit's own. records: the commit records of its columns,
    where they were read before.
    """

    shard: ShardRef
    rows: pa.Table
    reason: str | None
    records: Sequence[ScoreRecord] = ()
    edits: pa.Table | None = None  # edits that replace a value (`edited_samples.SCHEMA`), None without any


@dataclass(frozen=True)
class WriteGroup:
    """A write unit: consecutive input units, decided, and what decides its output."""

    units: Sequence[UnitDecisions]
    samples_per_shard: int
    columns: Sequence[score_tables.Column]  # index first, then the scores that are no vectors
    kinds: Mapping[str, pa.DataType] = field(default_factory=dict)  # of these scores, for units that have no table
    caption: str = ""  # the place of captions; the index's fingerprint contains it

    added: ClassVar[bool] = False  # whether edits add its samples (`added_samples`)

    def inputs(self, scored: Ledger, corpus: Store) -> list[UnitInput]:
        """Open the input units."""
        return [UnitInput(scored, corpus, unit, self) for unit in self.units]

    @property
    def id(self) -> str:
        """sha256 over everything that the output and the manifest part are made from."""
        decided = sha256()
        for unit in self.units:
            decided.update(digest([unit.shard, unit.reason, unit.rows.column("decision").to_pylist()]).encode())
            decided.update(digest(unit.rows.column("reason").to_pylist()).encode())
            weights = unit.rows.column("weight").to_pylist()
            if not set(weights) <= {0.0, 1.0}:  # 1 for what is kept, as ever, follows from the decision
                decided.update(digest(weights).encode())
            if unit.edits is not None:
                decided.update(digest(["edits", _known(unit.edits).to_pydict()]).encode())
        columns = [[column.name, column.fingerprint] for column in self.columns]
        return digest(["write", WRITER_VERSION, self.samples_per_shard, columns, decided.hexdigest()])


class Group(Protocol):
    """A write unit, as the writer knows it."""

    @property
    def samples_per_shard(self) -> int: ...

    @property
    def added(self) -> bool: ...

    @property
    def id(self) -> str: ...

    def inputs(self, scored: Ledger, corpus: Store) -> list[UnitInput]: ...


def _known(edits: pa.Table) -> pa.Table:
    """Edits without the column `from` where no edit has one, as earlier versions named their output."""
    column = edits.column("from")
    return edits.drop_columns(["from"]) if column.null_count == edits.num_rows else edits


def group_units(kept: Iterable[tuple[ShardRef, int, int]], samples: int) -> Iterator[tuple[int, int]]:
    """(first, last) ordinals of each group, from (shard, kept, rows) of every unit in order.

    A group ends before it would hold more than `samples`, and, once half full, after a unit whose key hashes to an even
    number: so that boundaries fall back into step soon after an insertion or a removal.
    """
    first, have, rows, last = 0, 0, 0, -1
    for last, (shard, n, m) in enumerate(kept):
        full = have + n > samples or rows + m > GROUP_ROWS or last - first >= GROUP_UNITS
        if last > first and full:
            yield first, last - 1
            first, have, rows = last, 0, 0
        have, rows = have + n, rows + m
        if 2 * have >= samples and sha256(shard.key.encode()).digest()[0] % 2 == 0:
            yield first, last
            first, have, rows = last + 1, 0, 0
    if last >= first:
        yield first, last


class GroupWriter:
    """Writes groups: `corpus` holds the input shards, `scored` the score tables, `out` the dataset."""

    def __init__(self, corpus: Store, scored: Ledger, out: Ledger) -> None:
        self.corpus, self.scored, self.out = corpus, scored, out

    def write(self, group: Group) -> dict[str, Any]:
        """Commit a group and return its record, with `unit` (its id) and `made` (whether it was written just now).

        A group that was committed before, by anybody, costs one GET.
        """
        unit = group.id
        record = self.out.find(unit, WriteRecord)
        made = record is None
        if record is None:
            record = self.out.commit(unit, self._make(unit, group), WriteRecord)
        return {**record.to_json(), "unit": unit, "made": made}

    def _make(self, unit: str, group: Group) -> dict[str, Any]:
        inputs = group.inputs(self.scored, self.corpus)
        try:
            shards = [self._shard(unit, inputs, start, stop) for start, stop in _splits(inputs, group)]
        finally:
            for item in inputs:
                item.close()
        table = _with_origins(pa.concat_tables([item.manifest() for item in inputs]))
        part = self.out.put_data(unit, to_parquet(table), "parquet")
        tallies = [item.tally() for item in inputs]
        return {
            "kind": "write",
            "inputs": tallies,
            "shards": shards,
            "manifest": {**part.to_json(), "rows": table.num_rows},
            **add_up(tallies),
            **stale_report(edit for item in inputs for edit in item.stale()),
            **({"added": True} if group.added else {}),
        }

    def _shard(self, unit: str, inputs: Sequence[UnitInput], start: int, stop: int) -> dict[str, Any]:
        """One output shard, of the group's kept samples `start` to `stop`. Fills in where each of them went."""
        runs, first = [], 0
        for item in inputs:
            low, high = max(start - first, 0), min(stop - first, len(item.kept))
            if low < high:
                runs.append((item, low, high))
            first += len(item.kept)

        def pieces() -> Iterator[Piece]:
            end = 0
            for item, low, high in runs:
                for buffers, offsets in item.samples.pieces(low, high):
                    item.position[low : low + len(offsets) - 1] = offsets[:-1] + end
                    low, end = low + len(offsets) - 1, end + int(offsets[-1])
                    yield from buffers
            yield bytes(END_BLOCKS)

        shard = self.out.put_data_pieces(unit, pieces, "tar")
        for item, low, high in runs:
            item.shards.append((shard.key, high - low))
            if high == len(item.kept):
                item.close()
        return {**shard.to_json(), "samples": stop - start}


class UnitInput:
    """One input unit's index, scores and decisions, and where its kept samples end up."""

    def __init__(self, scored: Ledger, corpus: Store, unit: UnitDecisions, group: WriteGroup) -> None:
        self.unit = unit
        self.scores: dict[str, pa.ChunkedArray] = {}
        if unit.reason in UNREADABLE:
            self.index = INDEX_SCHEMA.empty_table()
            self.scores = {name: pa.chunked_array([], kind) for name, kind in group.kinds.items()}
        else:
            known: Sequence[ScoreRecord | None] = unit.records or [None] * len(group.columns)
            first, *others = known
            self.index = score_tables.read(scored, unit.shard, group.columns[0], record=first)
            for column, record in zip(group.columns[1:], others, strict=True):
                uids = self.index.column("uid")
                self.scores |= score_tables.read_parts(scored, unit.shard, column, uids, record)
        if unit.rows.num_rows != self.index.num_rows:
            raise AssertionError(f"{unit.rows.num_rows} decisions for {self.index.num_rows} samples")
        self.decision, self.reason = (_strings(unit.rows.column(name)) for name in ("decision", "reason"))
        self.kept = np.flatnonzero(pc.equal(self.decision, KEPT).to_numpy(zero_copy_only=False))
        self.edits = edits_by_row(unit.edits)
        self.samples = WrittenSamples(corpus, unit.shard, self.index, self.kept, self.edits, group.caption)
        self.shards: list[tuple[str, int]] = []  # key and number of the kept samples in it, in order
        self.position = np.zeros(len(self.kept), np.int64)

    def close(self) -> None:
        self.samples.close()

    def tally(self) -> dict[str, Any]:
        rows = pa.table({"decision": self.decision, "reason": self.reason})
        counts = rows.group_by(["decision", "reason"]).aggregate([([], "count_all")])
        triples = zip(
            *(column.to_pylist() for column in counts.select(["decision", "reason", "count_all"])), strict=True
        )
        shard = self.unit.shard
        where = {"key": shard.key, "size": shard.size, "etag": shard.etag, "reason": self.unit.reason}
        return {**where, **tally(triples)}

    def stale(self) -> Iterator[tuple[str, StaleEdit]]:
        """The uid and the edit of each edit that was not applied, once the samples are written."""
        uids = self.index.column("uid")
        for row, edits in self.samples.stale.items():
            yield from ((uids[row].as_py(), edit) for edit in edits)

    def manifest(self) -> pa.Table:
        n = self.index.num_rows
        columns = {
            "uid": self.index.column("uid"),
            "key": self.index.column("key"),
            "decision": self.decision,
            "reason": self.reason,
            "weight": self.unit.rows.column("weight"),
            "source_key": pa.repeat(self.unit.shard.key, n),
            "source_etag": pa.repeat(self.unit.shard.etag, n),
            "source_offset": self.index.column("offset"),
            "source_length": self.index.column("length"),
            "width": self.index.column("width"),
            "height": self.index.column("height"),
            "content_hash": self.index.column("content_hash"),
            "output_shard": self._output_shards(),
            "output_offset": self._of_kept(self.position),
            "detail": _or_null(self.index, "detail"),
            "origin": self._origins(),
            **self.scores,
        }
        schema = manifest_schema.schema({name: values.type for name, values in self.scores.items()})
        return pa.table(columns).cast(schema)

    def _origins(self) -> pa.Array:
        """The origin of each row, after the edits that apply: null if it is real."""
        origins = _or_null(self.index, "origin")
        if not self.edits:
            return origins
        found = origins.to_pylist()
        for row, edits in self.samples.applied.items():
            found[row] = edits.origin(found[row]) if edits.edits else found[row]
        return pa.array(found, pa.string())

    def _output_shards(self) -> pa.Array:
        keys, counts = [key for key, _ in self.shards], [count for _, count in self.shards]
        codes = self._of_kept(np.repeat(np.arange(len(keys)), counts))
        return pa.DictionaryArray.from_arrays(codes.cast(pa.int32()), pa.array(keys, pa.string())).cast(pa.string())

    def _of_kept(self, values: Integers) -> pa.Array:
        """A column with these values at kept rows, and null elsewhere: int64."""
        column, mask = np.zeros(self.index.num_rows, np.int64), np.ones(self.index.num_rows, bool)
        column[self.kept], mask[self.kept] = values, False
        return pa.array(column, mask=mask)


def _strings(column: pa.ChunkedArray) -> pa.Array:
    """A column of strings, perhaps a dictionary, as one array of strings."""
    found = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _with_origins(table: pa.Table) -> pa.Table:
    """A manifest part without the column `origin` if all samples are real, as earlier versions wrote it."""
    place, origin = table.schema.get_field_index("origin"), table.column("origin")
    if origin.null_count == table.num_rows:
        return table.remove_column(place)
    return table.set_column(place, "origin", pc.fill_null(origin, REAL))


def _or_null(index: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """A column that the index tables of earlier versions lack."""
    return index.column(name) if name in index.column_names else pa.nulls(index.num_rows, pa.string())


def _splits(inputs: Sequence[UnitInput], group: Group) -> Iterator[tuple[int, int]]:
    return _even_split(sum(len(item.kept) for item in inputs), group.samples_per_shard)


def _even_split(n: int, most: int) -> Iterator[tuple[int, int]]:
    """n samples into the fewest shards of at most `most`, of sizes that differ by one at the most."""
    shards = -(-n // most)
    for i in range(shards):
        yield i * n // shards, (i + 1) * n // shards


def written_lengths(index: pa.Table, shard: ShardRef, *, samples_per_shard: int) -> pa.Array:
    """Bytes that each sample of a unit takes in an output shard, at most. int64 [N].

    Its members with headers and padding, the json with what `annotate` adds, and its share of the shard's two end
    blocks; not those of a shard that is not full, of which there is one a unit at the most. `index`: offset, length and
    members.
    """
    most = {name: pc.max(index.column(name)).as_py() or 0 for name in ("offset", "length")}
    entry = len(annotate(b'{"a": 0}', "f" * 32, shard, most["offset"], most["length"]))
    members = index.column("members").combine_chunks()
    parts, offsets = members.flatten(), members.offsets.to_numpy()
    size = parts.field("length").to_numpy()
    is_json = pc.equal(parts.field("extension"), "json").to_numpy(zero_copy_only=False)
    size = np.where(is_json, size + size // 2 + entry, size)  # written again with spaces where it had an entry before
    ends = np.concatenate([[0], np.cumsum(512 + _padded(size))])
    jsons = np.concatenate([[0], np.cumsum(is_json)])
    first, last = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
    lacks = jsons[last] == jsons[first]
    share = -(-END_BLOCKS // samples_per_shard)
    return pa.array(ends[last] - ends[first] + lacks * (512 + _padded(entry)) + share, pa.int64())


def _padded(size: Any) -> Any:
    return -(-size // 512) * 512


def add_up(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over several units."""
    triples = []
    for item in tallies:
        triples.append((KEPT, None, item["kept"]))
        for decision in ("filtered", "quarantined"):
            triples += [(decision, reason, n) for reason, n in item[decision].items()]
    return tally(triples)
