"""Samples of other snapshots, for filters that compare with them: evaluation sets, what was curated before.

Their hashes and vectors are read from their own score tables; nothing is scored. A column is the same one when it has
the same fingerprint, whatever the two recipes call it. Cost: the other snapshot's index and the columns compared, once
a run: about 60 bytes a sample of local disk and 2 a dimension of a vector.

One of them may be the dataset that the recipe itself writes. Before its first snapshot that is no sample. And making a
snapshot changes which is the latest, so a run is repeated when it would make what the latest one is, compared with what
that one was compared with (`as_then`): else every run would make another.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import RecipeError
from curation.core.origins import TRUSTED
from curation.core.printable import printable
from curation.dataset import manifest, snapshot
from curation.filters import ComparingFilter, Filter, flat
from curation.ledger import score_tables
from curation.ledger.ledger import Ledger
from curation.ledger.score_tables import INDEX, Column
from curation.ledger.unreadable import read_list
from curation.storage.store import StoreOptions, open_store

if TYPE_CHECKING:
    from curation.curating.decisions import Decisions


@dataclass(frozen=True)
class ComparedSnapshots:
    """The snapshots that a recipe's filters compare with, by the URL that the recipe has."""

    snapshots: Mapping[str, snapshot.Snapshot | None]  # None: of the dataset that the recipe writes, which has none yet
    own: str  # URL of that dataset
    options: StoreOptions | None = None

    @property
    def pins(self) -> dict[str, int]:
        """URL as in the recipe -> number of the snapshot; 0 where there was none yet."""
        return {url: made.number if made else 0 for url, made in self.snapshots.items()}

    @property
    def identity(self) -> list[list[str | None]]:
        """What decides their content."""
        return [[url, made.document["decision_id"] if made else None] for url, made in sorted(self.snapshots.items())]

    def as_then(self, pins: Mapping[str, int]) -> ComparedSnapshots:
        """The same, but of the dataset that the recipe writes the snapshot that `pins` say. One small GET each."""
        then = {
            url: _open(url, pins[url], self.own, self.options)
            for url, made in self.snapshots.items()
            if url in pins and (made is None or made.store.url == self.own)
        }
        return replace(self, snapshots={**self.snapshots, **then})

    def expect(self, filters: Sequence[Filter], columns: Sequence[Column]) -> None:
        """Raises `RecipeError` where a snapshot lacks a column that a filter compares: before anything is scored."""
        by_name = {column.name: column for column in columns}
        for item in (one for one in flat(filters) if isinstance(one, ComparingFilter)):
            for made in filter(None, (self.snapshots[url] for url in item.against)):
                _expect_columns(made, [by_name[name] for name in item.compared_columns()])

    def load(self, engine: Decisions, filters: Sequence[Filter], columns: Sequence[Column]) -> None:
        """Fill the tables of those filters that compare. `columns` are the recipe's. Raises `RecipeError`."""
        by_name = {column.name: column for column in columns}
        tables = {
            item.compared_table(): item for item in flat(filters) if isinstance(item, ComparingFilter)
        }  # of equal ones, one
        for name, item in tables.items():
            wanted = [by_name[column] for column in item.compared_columns()]
            made = [self.snapshots[url] for url in item.against]
            origins, left_out = getattr(item, "origins", TRUSTED), Counter[str]()  # filters of packages may have none
            rows = [
                (not one or one.store.url == self.own, *_rows(one, wanted, engine.vectors, origins, left_out))
                for one in made
            ]
            engine.load_others(name, item.compared_columns(), rows)
            if left_out:
                print(printable(left_out_line(item.against, left_out)), file=sys.stderr, flush=True)


def open_others(
    filters: Sequence[Filter], own: str, options: StoreOptions | None, pins: Mapping[str, int] | None = None
) -> ComparedSnapshots:
    """The snapshots that filters name, as they are now or as `pins` says they were. `own`: what the recipe writes."""
    urls = {url for item in flat(filters) if isinstance(item, ComparingFilter) for url in item.against}
    pins, own = pins or {}, open_store(own, options).url
    return ComparedSnapshots({url: _open(url, pins.get(url), own, options) for url in sorted(urls)}, own, options)


def _open(url: str, number: int | None, own: str, options: StoreOptions | None) -> snapshot.Snapshot | None:
    """A snapshot as a recipe names it; one that is named without a number, as the number says."""
    if re.search(r"@\d+\Z", url):
        return snapshot.open(url, options=options)
    root = url.removesuffix("@latest")
    if number is None and (store := open_store(root, options)).url == own:
        number = Ledger(store).latest()
    return None if number == 0 else snapshot.open_snapshot(root, number, options)


def _expect_columns(made: snapshot.Snapshot, columns: Sequence[Column]) -> None:
    have = set(made.document["fingerprints"].values())
    for column in columns:
        if column.fingerprint not in have:
            where = f"{made.store.url}@{made.number}"
            fix = "curate run it with the same scorer, then name that snapshot"
            raise RecipeError(f"{where} has no column made as {column.name} is in this recipe", fix=fix)


def left_out_line(against: Sequence[str], origins: Mapping[str, int]) -> str:
    """Return the line that reports kept samples which are not compared, by their origins."""
    counts = ", ".join(f"{origin} {count:,}" for origin, count in sorted(origins.items()))
    return (
        f"left out of the comparison with {', '.join(against)} by origin: {counts}; `origins:` of the filter names more"
    )


def _rows(
    made: snapshot.Snapshot | None,
    columns: Sequence[Column],
    vectors: Sequence[str],
    origins: Sequence[str],
    left_out: Counter[str],
) -> tuple[pa.RecordBatchReader, Iterator[pa.Table]]:
    """(uid and decision of its manifest; uid, content_hash and the columns of all its samples, unit by unit).

    origins: those of the samples that are compared; left_out: counts the other kept samples while they are read.
    """
    if made is None:
        return pa.table({"uid": pa.array([], pa.string()), "decision": pa.array([], pa.string())}).to_reader(), iter(())
    _expect_columns(made, columns)
    document = made.document
    scored = Ledger(document.scores_at(made.store))
    without = read_list(made.store, document.unreadable)
    shards = (shard for shard in Ledger(made.store).open_plan(document["plan"]).shards() if shard not in without)
    plain = [Column(INDEX, document["fingerprints"][INDEX]), *(one for one in columns if one.name not in vectors)]
    wide = [one for one in columns if one.name in vectors]
    units = (unit.table for unit in score_tables.load_units(scored, shards, plain, ["content_hash"], wide))
    names = ["uid", "content_hash", *(column.name for column in columns)]
    return _of_origins(made, origins, left_out), (_checked(table.select(names), scored.store.url) for table in units)


def _of_origins(made: snapshot.Snapshot, origins: Sequence[str], left_out: Counter[str]) -> pa.RecordBatchReader:
    """Stream uid and decision of a manifest, without the samples of other origins."""
    source = made.reader(["uid", "decision", "origin"])
    schema = pa.schema([source.schema.field(name) for name in ("uid", "decision")])
    values = pa.array(origins, pa.string())

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in source:
            compared = pc.is_in(batch.column("origin"), value_set=values)
            others = batch.filter(pc.and_(pc.invert(compared), pc.equal(batch.column("decision"), "kept")))
            left_out.update(others.column("origin").to_pylist())
            yield batch.filter(compared).select(schema.names)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _checked(table: pa.Table, where: str) -> pa.Table:
    """The same table. Raises `LedgerError` where a uid is none."""
    manifest.check_uids(table, f"a score table in {where}")
    return table
