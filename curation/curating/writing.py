"""Write kept samples into output shards whose bytes are a pure function of the manifest.

Input units are grouped into *write units*; each becomes one commit record that names its output shards and its part of
the manifest. Where a group ends depends on the units near it only (content-defined), so a new input shard rewrites the
output around it and nothing else. Original bytes are copied by coalesced ranged reads with If-Match and never
re-encoded; a sample's json gains one key, `tutelage`, with its uid and source, spliced in: its other bytes stay.

Cost per kept sample: its bytes in and out once, 30 us of Python. Memory: one read of at most 16 MiB and a sample. On
local disk: the output shard, and an input shard whose samples' members are not adjacent.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import digest
from curation.core.types import ShardRef
from curation.curating.tally import KEPT, tally
from curation.ledger import manifest_schema, score_tables
from curation.ledger.documents import ScoreRecord, WriteRecord
from curation.ledger.ledger import Ledger
from curation.ledger.unreadable import UNREADABLE
from curation.shards.contents import MAX_JSON_DEPTH, depth
from curation.shards.member_reader import MemberReader
from curation.shards.tar import END_BLOCKS
from curation.shards.tar_writer import TarWriter
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.parquet import to_parquet
from curation.storage.store import Store
from curation.storage.tables import local_disk

WRITER_VERSION = 1
JSON_KEY = "tutelage"
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


@dataclass(frozen=True)
class WriteGroup:
    """A write unit: consecutive input units, decided, and what decides its output."""

    units: Sequence[UnitDecisions]
    samples_per_shard: int
    columns: Sequence[score_tables.Column]  # index first, then the scores that are no vectors
    kinds: Mapping[str, pa.DataType] = field(default_factory=dict)  # of these scores, for units that have no table

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
        columns = [[column.name, column.fingerprint] for column in self.columns]
        return digest(["write", WRITER_VERSION, self.samples_per_shard, columns, decided.hexdigest()])


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

    def write(self, group: WriteGroup) -> dict[str, Any]:
        """Commit a group and return its record, with `unit` (its id) and `made` (whether it was written just now).

        A group that was committed before, by anybody, costs one GET.
        """
        unit = group.id
        record = self.out.find(unit, WriteRecord)
        made = record is None
        if record is None:
            record = self.out.commit(unit, self._make(unit, group), WriteRecord)
        return {**record.to_json(), "unit": unit, "made": made}

    def _make(self, unit: str, group: WriteGroup) -> dict[str, Any]:
        inputs = [_Input(self.scored, item, group) for item in group.units]
        kept = [(item, row) for item in inputs for row in item.kept]
        splits = _even_split(len(kept), group.samples_per_shard)
        try:
            shards = [self._shard(unit, kept[start:stop]) for start, stop in splits]
        finally:
            for item in inputs:
                item.close()
        table = pa.concat_tables([item.manifest() for item in inputs])
        part = self.out.put_data(unit, to_parquet(table), "parquet")
        tallies = [item.tally() for item in inputs]
        return {
            "kind": "write",
            "inputs": tallies,
            "shards": shards,
            "manifest": {**part.to_json(), "rows": table.num_rows},
            **add_up(tallies),
        }

    def _shard(self, unit: str, rows: Sequence[tuple[_Input, int]]) -> dict[str, Any]:
        """One output shard: spool, hash, put. Fills in where each sample went."""
        with local_disk("an output shard's spool"), tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
            path = Path(folder) / "shard.tar"
            positions: list[int] = []
            with path.open("wb") as file:
                writer = TarWriter(file)
                for item, row, members in self._samples(rows):
                    positions.append(_add(writer, item, row, members))
                writer.close()
            shard = self.out.put_data_file(unit, path, "tar")
        for (item, row), position in zip(rows, positions, strict=True):
            item.shard[row], item.position[row] = shard.key, position
        return {**shard.to_json(), "samples": len(rows)}

    def _samples(self, rows: Sequence[tuple[_Input, int]]) -> Iterator[tuple[_Input, int, list[tuple[str, bytes]]]]:
        """(input, row, [(extension, bytes)]) of each row, in order."""
        for _, pairs in groupby(rows, key=lambda pair: id(pair[0])):
            some = list(pairs)
            item = some[0][0]
            for row, members in item.reader(self.corpus).read([row for _, row in some]):
                yield item, row, members
            if some[-1][1] == item.kept[-1]:
                item.close()


class _Input:
    """One input unit's index, scores and decisions, and where its kept samples end up."""

    def __init__(self, scored: Ledger, unit: UnitDecisions, group: WriteGroup) -> None:
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
        self.decision = unit.rows.column("decision").to_pylist()
        self.reason = unit.rows.column("reason").to_pylist()
        self.weight = unit.rows.column("weight")
        if len(self.decision) != self.index.num_rows:
            raise AssertionError(f"{len(self.decision)} decisions for {self.index.num_rows} samples")
        self.kept = [row for row, decision in enumerate(self.decision) if decision == KEPT]
        self.uids = self.index.column("uid").to_pylist()
        self.offsets = self.index.column("offset").to_pylist()
        self.lengths = self.index.column("length").to_pylist()
        self.members = self.index.column("members").to_pylist()
        self.shard: dict[int, str] = {}
        self.position: dict[int, int] = {}
        self._reader: MemberReader | None = None

    def reader(self, corpus: Store) -> MemberReader:
        """Reads the samples' members, until `close`."""
        if self._reader is None:
            self._reader = MemberReader(corpus, self.unit.shard, self.offsets, self.lengths, self.members)
        return self._reader

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def tally(self) -> dict[str, Any]:
        triples = ((d, r, 1) for d, r in zip(self.decision, self.reason, strict=True))
        shard = self.unit.shard
        where = {"key": shard.key, "size": shard.size, "etag": shard.etag, "reason": self.unit.reason}
        return {**where, **tally(triples)}

    def manifest(self) -> pa.Table:
        n = self.index.num_rows
        columns = {
            "uid": self.index.column("uid"),
            "key": self.index.column("key"),
            "decision": pa.array(self.decision, pa.string()),
            "reason": pa.array(self.reason, pa.string()),
            "weight": self.weight,
            "source_key": pa.array([self.unit.shard.key] * n, pa.string()),
            "source_etag": pa.array([self.unit.shard.etag] * n, pa.string()),
            "source_offset": self.index.column("offset"),
            "source_length": self.index.column("length"),
            "width": self.index.column("width"),
            "height": self.index.column("height"),
            "content_hash": self.index.column("content_hash"),
            "output_shard": pa.array([self.shard.get(row) for row in range(n)], pa.string()),
            "output_offset": pa.array([self.position.get(row) for row in range(n)], pa.int64()),
            "detail": _or_null(self.index, "detail"),
            **self.scores,
        }
        return pa.table(columns).cast(
            manifest_schema.schema({name: values.type for name, values in self.scores.items()})
        )


def _or_null(index: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """A column that the index tables of earlier versions lack."""
    return index.column(name) if name in index.column_names else pa.nulls(index.num_rows, pa.string())


def _even_split(n: int, most: int) -> Iterator[tuple[int, int]]:
    """n samples into the fewest shards of at most `most`, of sizes that differ by one at the most."""
    shards = -(-n // most)
    for i in range(shards):
        yield i * n // shards, (i + 1) * n // shards


def _add(writer: TarWriter, item: _Input, row: int, members: Sequence[tuple[str, bytes]]) -> int:
    """Append one sample under its uid; returns the offset of its first header."""
    name = item.uids[row]
    parts = dict(members)
    parts["json"] = annotate(parts.get("json", b"{}"), name, item.unit.shard, item.offsets[row], item.lengths[row])
    data_offsets = [writer.add(f"{name}.{extension}", parts[extension]) for extension in sorted(parts)]
    return data_offsets[0] - 512


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


def annotate(original: bytes, uid: str, shard: ShardRef, offset: int, length: int) -> bytes:
    """The sample's json with uid and source under `tutelage`; all other bytes stay as they were.

    A sample that was curated before keeps its earlier entry as the new one's `parent`, unless that would nest the json
    deeper than `contents.MAX_JSON_DEPTH`. Never raises for a json that `contents.metadata` accepts.
    """
    source = {"key": shard.key, "etag": shard.etag, "offset": offset, "length": length}
    value = json.loads(original)
    entry: dict[str, Any] = {"uid": uid, "source": source}
    if JSON_KEY in value:
        parent = value.pop(JSON_KEY)
        if depth(parent) + 2 <= MAX_JSON_DEPTH:
            entry["parent"] = parent
        return json.dumps({**value, JSON_KEY: entry}, ensure_ascii=False).encode()
    body = original.decode().rstrip()[:-1].rstrip()
    comma = ", " if value else ""
    return f"{body}{comma}{json.dumps(JSON_KEY)}: {json.dumps(entry, ensure_ascii=False)}}}".encode()


def add_up(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over several units."""
    triples = []
    for item in tallies:
        triples.append((KEPT, None, item["kept"]))
        for decision in ("filtered", "quarantined"):
            triples += [(decision, reason, n) for reason, n in item[decision].items()]
    return tally(triples)
