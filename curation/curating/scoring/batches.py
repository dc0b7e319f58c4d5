"""From units to batches: read and decode, here or ahead on other CPUs; cut to one size; as a scorer sees them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import StoreError
from curation.core.executor import WorkerDiedError, WorkerPlace
from curation.core.types import ShardRef
from curation.curating.scoring.black_box import Box
from curation.curating.scoring.watch import watched
from curation.scorers import Batch
from curation.shards.contents import FIELD
from curation.shards.images import Preprocess
from curation.shards.unit_reader import UnitReader, failure_table, pixels, view_column


def guarded(tables: Iterator[pa.Table], reader: UnitReader, shard: ShardRef) -> Iterator[pa.Table]:
    """The tables of one unit; a store that fails ends it with a failure row, and the other units go on."""
    try:
        yield from tables
    except StoreError as error:
        yield failure_table(shard, f"{error.code}: {error}", reader.views, reader.fields)


def decode(reader: UnitReader, shard: ShardRef, seconds: float) -> Iterator[pa.Table]:
    """The tables of one unit, as a task, which is ended where one of them takes longer than `seconds`."""
    tables = guarded(reader.read(shard), reader, shard)
    while True:
        with watched(seconds):
            table = next(tables, None)
        if table is None:
            return
        yield table


def decode_noted(tables: Iterator[pa.Table], box: Box, seconds: float) -> Iterator[pa.Table]:
    """Tables that this process decodes; it ends where one of them takes longer than `seconds`, or too much memory."""
    while True:
        try:
            with box.watched(seconds):
                table = next(tables, None)
        except MemoryError as error:
            box.die(error)  # with a note of the sample that is too much: others can do without
            raise
        if table is None:
            return
        yield table


def decode_here(reader: UnitReader, shards: Iterable[ShardRef]) -> Iterator[pa.Table]:
    """The tables of units one after the other; the first block of the next one comes while this one is worked on."""
    current: Iterator[pa.Table] = iter(())
    for shard in shards:
        following = guarded(reader.read(shard), reader, shard)
        yield from current
        current = following
    yield from current


def decode_ahead(
    place: WorkerPlace,
    reader: UnitReader,
    shards: Sequence[ShardRef],
    ahead: int,
    num_cpus: float,
    box: Box,
    seconds: float,
) -> Iterator[pa.Table]:
    """Yield the tables of units, decoded on other CPUs, `ahead` units at once; the tables of one unit stay in order.

    Units follow each other where the engine decodes whole units ahead. Where it bounds what waits (`place.in_turns`),
    `ahead` units are read in turns, a table from each: all their decoders stay busy, and memory holds a few tables of
    each instead of whole units. A unit whose task dies or lacks memory is decoded again in this process, which notes
    the sample in work: its rows that came before are repeated. num_cpus: of each task.
    """
    assert place.stream is not None
    there = partial(decode, replace(reader, watch=None), seconds=seconds)
    begun = place.stream(there, shards, ahead, num_cpus)

    def tables_of(shard: ShardRef, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        try:
            yield from tables
        except WorkerDiedError:
            yield from decode_noted(guarded(reader.read(shard), reader, shard), box, seconds)

    units = (tables_of(shard, tables) for shard, tables in zip(shards, begun, strict=True))
    return in_turns(units, ahead if place.in_turns else 1)


def in_turns(iterators: Iterator[Iterator[pa.Table]], width: int) -> Iterator[pa.Table]:
    """Read `width` iterators at a time, a table from each in turn; the next one takes the place of one that ends."""
    opened = deque(islice(iterators, width))
    while opened:
        current = opened.popleft()
        for table in islice(current, 1):
            opened.append(current)
            yield table
            break
        else:
            opened.extend(islice(iterators, 1))


def make_batch(table: pa.Table, views: Sequence[Preprocess], size: int, reads: Sequence[str] = ()) -> Batch:
    """A table of at most `size` rows as a batch of exactly `size`: black images and empty captions fill it up.

    reads: the columns that scorers read, of the index or `json.<field>`.
    """
    captions = [caption or "" for caption in table.column("caption").to_pylist()]
    columns = (pc.fill_null(table.column(name), 0).to_numpy() for name in ("width", "height"))
    sizes = np.stack(list(columns), axis=1).astype(np.int32)
    batch = Batch(captions, {view_column(view): pixels(table, view) for view in views}, sizes)
    batch.columns = {name: _column(table, name) for name in reads}
    return padded(batch, size)


def _column(table: pa.Table, name: str) -> list[Any]:
    """The values of a column that scorers read; those of the json are parsed."""
    values: list[Any] = table.column(name).to_pylist()
    return [value and json.loads(value) for value in values] if name.startswith(FIELD) else values


def padded(batch: Batch, size: int) -> Batch:
    """The batch filled up to `size` samples with black images and empty captions."""
    lacks = size - len(batch.captions)
    if lacks <= 0:
        return batch
    views = {name: np.concatenate([i, np.zeros((lacks, *i.shape[1:]), i.dtype)]) for name, i in batch.views.items()}
    sizes = np.concatenate([batch.sizes, np.zeros((lacks, 2), batch.sizes.dtype)])
    columns = {name: [*values, *[None] * lacks] for name, values in batch.columns.items()}
    return Batch([*batch.captions, *[""] * lacks], views, sizes, columns)


def part(batch: Batch, rows: np.ndarray[Any, Any]) -> Batch:
    """Only these samples of a batch."""
    columns = {name: [values[i] for i in rows] for name, values in batch.columns.items()}
    views = {name: images[rows] for name, images in batch.views.items()}
    return Batch([batch.captions[i] for i in rows], views, batch.sizes[rows], columns)


def blanked(batch: Batch, rows: np.ndarray[Any, Any]) -> Batch:
    """The batch with these samples black, without caption and columns: of the same shape, so that other scores stay."""
    captions, views, sizes = list(batch.captions), {n: v.copy() for n, v in batch.views.items()}, batch.sizes.copy()
    columns = {name: list(values) for name, values in batch.columns.items()}
    for row in rows:
        captions[row] = ""
        for values in columns.values():
            values[row] = None
    for images in (*views.values(), sizes):
        images[rows] = 0
    return Batch(captions, views, sizes, columns)


def usable(table: pa.Table) -> np.ndarray[Any, Any]:
    """[N] bool: a sample that is not quarantined, and no end row."""
    good = pc.and_(pc.is_null(table.column("reason")), pc.invert(table.column("end")))
    return good.to_numpy()  # type: ignore[no-any-return]


def shard_refs(units: pa.Table) -> Iterator[ShardRef]:
    columns = (units.column(name).to_pylist() for name in ("shard_key", "shard_size", "shard_etag"))
    for row in zip(*columns, strict=True):
        yield ShardRef(*row)


def units_table(shards: Sequence[ShardRef]) -> pa.Table:
    """Units as `dispatch.score` takes them: shard_key, shard_size, shard_etag."""
    columns = list(zip(*shards, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.int64(), pa.string())
    names = ("shard_key", "shard_size", "shard_etag")
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, types, strict=True)})
