"""Samples that edits add: from marked shards, which are not part of the corpus, into a snapshot.

An edit `add` names a sample by its uid and the URL of its shard. The sample passes by scorers and filters. It is
written like any other, with its original bytes and the origin that its json names; its scores in the manifest are null.
The manifest's `source_key` is the shard's URL. A sample that can't be added is a row with a reason, and costs no run.

Marked shards are pinned by size and etag when a run starts (one HEAD each); the pins are part of the decision's digest
and of the snapshot's document. A shard is read from its start to the last sample that is wanted, and only wanted
samples are decoded. Memory: the index of a shard's wanted samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import digest
from curation.core.errors import EditListError, NotFoundError, StoreError, TarError
from curation.core.parallel import map_ordered
from curation.core.types import ShardRef, uid
from curation.curating.edited_samples import FieldEdit, SampleEdits
from curation.curating.tally import FILTERED, KEPT, QUARANTINED
from curation.curating.writing import WRITER_VERSION, UnitDecisions, UnitInput, group_units
from curation.curating.written_samples import WrittenSamples
from curation.ledger.ledger import Ledger
from curation.ledger.unreadable import REASONS
from curation.shards.confirm_damage import confirm
from curation.shards.contents import detail_of
from curation.shards.images import DecodeLimits
from curation.shards.tar_samples import TarSample, read_samples
from curation.shards.unit_reader import INDEX_SCHEMA, facts
from curation.storage.store import Store, StoreOptions, open_object
from curation.storage.urls import absolute_url

MISSING, UNMARKED, DROPPED = "missing_sample", "not_marked", "drop_list"
MOST_SHARDS = 10_000  # marked shards of a recipe, since a snapshot's document lists them


class MarkedShard(NamedTuple):
    """A marked shard as it was found. reason: why the store refuses it, then size and etag are empty."""

    named: str  # as edit lists name it
    url: str
    size: int
    etag: str
    reason: str | None

    @property
    def ref(self) -> ShardRef:
        """The shard as the manifest's source."""
        return ShardRef(self.url, self.size, self.etag)


def pin_shards(adds: pa.Table, options: StoreOptions | None) -> list[MarkedShard]:
    """Return the marked shards that edits name, sorted, as they are now. adds: edits with the verb `add`.

    Costs a HEAD a shard. Raises `EditListError` for more than `MOST_SHARDS`, and `StoreError` for a failure that may
    pass.
    """
    names = sorted(pc.unique(adds.column("value")).to_pylist())
    if len(names) > MOST_SHARDS:
        text = f"the edits add samples of {len(names):,} shards, more than {MOST_SHARDS:,}"
        raise EditListError(text, fix="put these samples into fewer shards, or name the shards under `corpus:`")

    def pinned(name: str) -> MarkedShard:
        url = absolute_url(name)
        store, key = open_object(url, options)
        try:
            info = store.head(key)
        except StoreError as error:
            if error.code not in REASONS:
                raise
            return MarkedShard(name, url, 0, "", REASONS[error.code])
        return MarkedShard(name, url, info.size, info.etag, None)

    return list(map_ordered(pinned, names))


@dataclass(frozen=True)
class AddedUnit:
    """The samples that edits add from one marked shard. rows: uid, reason (of a drop, or null) and weight, by uid.

    edits: those that replace a value, by uid.
    """

    shard: MarkedShard
    rows: pa.Table
    edits: Mapping[str, SampleEdits] = field(default_factory=dict)


def added_units(edits: pa.Table, shards: Sequence[MarkedShard]) -> list[AddedUnit]:
    """Return what edits add, shard by shard. edits: all edits of the added samples."""
    by_uid: dict[str, dict[str, Any]] = {}
    replaced: dict[str, list[FieldEdit]] = {}
    for edit in edits.to_pylist():
        name, verb = edit["uid"], edit["verb"]
        about = by_uid.setdefault(name, {"uid": name, "reason": None, "weight": 1.0})
        if verb == "add":
            about["shard"] = edit["value"]
        elif verb == "drop":
            about["reason"] = DROPPED
        elif verb == "weight":
            about["weight"] = float(np.float32(edit["value"]))
        elif verb == "replace":
            parts = (edit[part] for part in ("field", "value", "by", "at_run", "from"))
            replaced.setdefault(name, []).append(FieldEdit(*parts))
    found = []
    for shard in shards:
        rows = [by_uid[name] for name in sorted(by_uid) if by_uid[name]["shard"] == shard.named]
        own = {
            row["uid"]: SampleEdits(tuple(sorted(replaced[row["uid"]], key=lambda edit: edit.field)))
            for row in rows
            if row["uid"] in replaced
        }
        found.append(AddedUnit(shard, pa.Table.from_pylist(rows, _ROWS), own))
    return found


_ROWS = pa.schema([("uid", pa.string()), ("reason", pa.string()), ("weight", pa.float32())])


@dataclass(frozen=True)
class AddedGroup:
    """A write unit of added samples, and what decides its output. kinds: types of the scores, which are null."""

    units: Sequence[AddedUnit]
    samples_per_shard: int
    kinds: Mapping[str, pa.DataType]
    caption: str
    limits: DecodeLimits
    options: StoreOptions | None = None

    columns: tuple[Any, ...] = ()  # of score tables: none
    added = True

    @property
    def id(self) -> str:
        """sha256 over everything that the output and the manifest part are made from."""
        units = [
            [*unit.shard[1:], unit.rows.to_pydict(), {name: asdict(item) for name, item in unit.edits.items()}]
            for unit in self.units
        ]
        kinds = {name: str(kind) for name, kind in self.kinds.items()}
        settings = [self.samples_per_shard, kinds, self.caption, asdict(self.limits)]
        return digest(["added", WRITER_VERSION, settings, units])

    def inputs(self, scored: Ledger, corpus: Store) -> list[UnitInput]:
        """Read the wanted samples of each shard."""
        return [AddedInput(unit, self) for unit in self.units]


def added_groups(
    units: Sequence[AddedUnit], samples_per_shard: int, kinds: Mapping[str, pa.DataType], caption: str,
    limits: DecodeLimits, options: StoreOptions | None,
) -> Iterator[AddedGroup]:  # fmt: skip
    """Yield the write units of added samples."""
    counts = [(unit.shard.ref, unit.rows.num_rows, unit.rows.num_rows) for unit in units]
    for first, last in group_units(counts, samples_per_shard):
        yield AddedGroup(units[first : last + 1], samples_per_shard, kinds, caption, limits, options)


class AddedInput(UnitInput):
    """The wanted samples of a marked shard: those that are found in their order, then the others by uid."""

    def __init__(self, unit: AddedUnit, group: AddedGroup) -> None:
        about = {row["uid"]: row for row in unit.rows.to_pylist()}
        store, key = open_object(unit.shard.url, group.options)
        ref = ShardRef(key, unit.shard.size, unit.shard.etag)
        found, reason = ({}, unit.shard.reason) if unit.shard.reason else _read(store, ref, about.keys(), unit, group)
        missing = {"row": 0, "members": [], "offset": 0, "length": 0, "reason": reason or MISSING}
        rows = [*found.values(), *({**missing, "uid": name} for name in sorted(about.keys() - found.keys()))]
        self.index = pa.Table.from_pylist([{**row, "row": n} for n, row in enumerate(rows)], INDEX_SCHEMA)
        self.scores = {name: pa.chunked_array([pa.nulls(len(rows), kind)], kind) for name, kind in group.kinds.items()}
        bad = [row["reason"] for row in rows]
        drops = [about[row["uid"]]["reason"] for row in rows]
        decisions = [
            QUARANTINED if wrong else FILTERED if drop else KEPT for wrong, drop in zip(bad, drops, strict=True)
        ]
        weights = [
            about[row["uid"]]["weight"] if decision == KEPT else 0.0
            for row, decision in zip(rows, decisions, strict=True)
        ]
        self.decision = pa.array(decisions, pa.string())
        self.reason = pa.array([wrong or drop for wrong, drop in zip(bad, drops, strict=True)], pa.string())
        decided = pa.table({"weight": pa.array(weights, pa.float32())})
        self.unit = UnitDecisions(unit.shard.ref, decided, unit.shard.reason)
        self.kept = np.flatnonzero(np.array([decision == KEPT for decision in decisions], bool))
        self.edits = {n: unit.edits[row["uid"]] for n, row in enumerate(rows) if row["uid"] in unit.edits}
        self.samples = WrittenSamples(
            store, ref, self.index, self.kept, self.edits, group.caption, source=unit.shard.ref
        )
        self.shards = []
        self.position = np.zeros(len(self.kept), np.int64)


def _read(
    store: Store, ref: ShardRef, wanted: Any, unit: AddedUnit, group: AddedGroup
) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Return the index rows of wanted samples by uid, and why the rest of the shard can't be read.

    Raises `StoreError` for a failure that may pass, and for a shard that changed after it was pinned.
    """
    found: dict[str, dict[str, Any]] = {}
    keys, number = _keys(unit.shard.url), 0
    try:
        for number, sample in enumerate(read_samples(store.blocks(ref.key, ref.size, ref.etag), ref.size)):
            own = next((name for key in keys if (name := uid(key, ref.etag, sample.start)) in wanted), None)
            if own is not None:
                found[own] = _facts(ref, number, sample, group) | {"uid": own}
                if len(found) == len(wanted):
                    break
    except TarError as error:
        confirm(store, ref, error, number)
        return found, error.reason
    except StoreError as error:
        if error.code not in REASONS or isinstance(error, NotFoundError):
            raise
        return found, REASONS[error.code]
    return found, None


def _facts(ref: ShardRef, number: int, sample: TarSample, group: AddedGroup) -> dict[str, Any]:
    row = facts(ref, number, sample, group.limits, caption=group.caption)
    if row["reason"] is None and row["origin"] is None:
        row["reason"] = UNMARKED
        row["detail"] = detail_of("the json names no `tutelage.origin` other than real")
    return row


def _keys(url: str) -> list[str]:
    """Return the keys that a shard has in corpora with it, whose root is one of its folders: the shortest first."""
    parts = url.partition("://")[2].split("/")[1:] if "://" in url else url.split("/")[1:]
    return ["/".join(parts[at:]) for at in range(len(parts) - 1, -1, -1)]


def added_line(samples: Mapping[str, Any]) -> str:
    """Return the line that reports how many samples edits added, and why others were not. samples: their tally."""
    others = {**samples["filtered"], **samples["quarantined"]}
    listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(others.items()))
    end = f"; {sum(others.values()):,} are not: {listed}" if others else ""
    return f"edits add {samples['kept']:,} samples of marked shards{end}"
