"""The reader of one unit: fetch, scan, check, decode. It yields Arrow tables, never one object a sample.

Every sample of the shard becomes a row, including unusable ones (`reason` says why). The last row of every unit is its
*end row*: it holds the number of rows before it and, if the archive itself is broken, the unit's reason. The consumer
therefore knows when a unit is complete, and an empty or unreadable shard is still one row.

Cost per sample: header scan 8 us, content hash 1 us per 2 KB, decode and resize 70 us for 64 px, 2 ms for a photograph.
Memory: one block of the shard and `ROWS_PER_TABLE` decoded images, whatever the shard's size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.core.errors import ImageError, TarError, TutelageError
from curation.core.holdout import content_of
from curation.core.origins import origin_of
from curation.core.types import ShardRef, uid
from curation.shards.confirm_damage import SURE, SecondRead, confirm
from curation.shards.contents import FIELD, detail_of, field_text, parse
from curation.shards.images import IMAGE_CODE_VERSION, DecodeLimits, Preprocess, decode, expect_decodable, inspect
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.store import Store

_log = logging.getLogger(__name__)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

ROWS_PER_TABLE = 256

MEMBERS = pa.list_(pa.struct([("extension", pa.string()), ("offset", pa.int64()), ("length", pa.int64())]))

#: The facts about every sample that need no model, which are the columns of a unit's index table. Only tables with a
#: sample that is not real have the last one.
INDEX_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),  # position in the unit
        ("uid", pa.string()),
        ("key", pa.string()),  # webdataset's __key__, as found
        ("offset", pa.int64()),  # bytes from the start of the shard to the sample's first header
        ("length", pa.int64()),  # bytes of all its members, including headers and padding
        ("members", MEMBERS),
        ("caption", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("content_hash", pa.string()),  # sha256 of the image's bytes, 32 hexadecimal characters
        ("reason", pa.string()),  # why the sample is quarantined; null if it is usable
        ("detail", pa.string()),  # additional information about the reason
        ("origin", pa.string()),  # what the sample's json says of its origin (`core.origins`); null if it is real
    ]
)
STREAM_SCHEMA = pa.schema(
    [
        ("shard_key", pa.string()),
        ("shard_size", pa.int64()),
        ("shard_etag", pa.string()),
        ("end", pa.bool_()),  # marks the end row: `row` is the number of samples, `reason` the unit's own
        *INDEX_SCHEMA,
    ]
)


@dataclass(frozen=True)
class UnitReader:
    """Reads units from a store. `views`: the pixel columns to decode, one for each preprocessing of the scorers."""

    store: Store
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    views: Sequence[Preprocess] = ()
    caption: str = ""  # the place of captions, as a recipe's `input` names it
    poison: Mapping[int, str] = field(default_factory=dict)  # row -> reason, if only one unit is read
    watch: Callable[[ShardRef, int], None] | None = None  # called with each row before it is decoded, and with -1 after
    fields: Sequence[str] = ()  # of the json, which scorers read: string columns `json.<field>` of JSON text

    def read(self, shard: ShardRef) -> Iterator[pa.Table]:
        """Yield the rows of one shard in tables of `ROWS_PER_TABLE`, then its end row.

        Fetching starts with this call, not with the first table: call `read` for the next unit while you use this one.
        Raises `StoreError`. Errors in the input become reasons once a second read has confirmed them.
        """
        return self._tables(shard, self.store.blocks(shard.key, shard.size, shard.etag))

    def _tables(self, shard: ShardRef, blocks: Iterator[bytes]) -> Iterator[pa.Table]:
        rows = _Rows(shard, self)
        reason = detail = None
        try:
            for sample in read_samples(blocks, shard.size):
                rows.add(sample)
                if rows.full:
                    yield rows.take()
        except TarError as error:
            confirm(self.store, shard, error, rows.row)
            reason, detail = error.reason, detail_of(str(error))
        rows.add_end(reason, detail)
        yield rows.take()


def failure_table(shard: ShardRef, message: str, views: Sequence[Preprocess], fields: Sequence[str] = ()) -> pa.Table:
    """Return the end row of a unit that could not be read: `row` is -1, `reason` is `message`. Don't commit it."""
    rows = _Rows(shard, UnitReader(None, views=views, fields=fields))  # type: ignore[arg-type]
    rows.row = -1
    rows.add_end(message)
    return rows.take()


def view_column(view: Preprocess) -> str:
    """Return the name of a view's pixel column, which holds [size * size * 3] bytes of RGB a row."""
    return f"pixels_{view.size}_{view.mode}"


def pixels(table: pa.Table, view: Preprocess) -> Pixels:
    """Return a view's pixels as uint8 [N, size, size, 3], without a copy if the column is one chunk."""
    column = table.column(view_column(view)).combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    width = view.size * view.size * 3
    flat = np.frombuffer(chunk.buffers()[1], np.uint8, count=len(chunk) * width, offset=chunk.offset * width)
    return flat.reshape(len(chunk), view.size, view.size, 3)


def index_fingerprint(limits: DecodeLimits, caption: str = "") -> str:
    """Return the fingerprint of the index table: the limits, the place of captions, and the version of the code."""
    from curation.core.digest import digest

    where = {"caption": caption} if caption else {}
    return digest({"kind": "index", "code": 2, "images": IMAGE_CODE_VERSION, "limits": asdict(limits), **where})


def facts(
    shard: ShardRef,
    row: int,
    sample: TarSample,
    limits: DecodeLimits,
    views: Sequence[Preprocess] = (),
    into: list[Pixels | None] | None = None,
    caption: str = "",
    poison: str | None = None,
    fields: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the index row of one sample; decode it, and store its pixels for each of `views` in the list `into`.

    `caption`: the place of captions. `fields`: fields of the json, which the row has as `json.<field>`, too. `poison`:
    the reason why the sample must not be decoded and is quarantined (see `curation.ledger.attempts`). An unexpected
    error of a decoder quarantines the sample, too: `poison_raised`.
    """
    found: dict[str, Any] = {
        "row": row,
        "uid": uid(shard.key, shard.etag, sample.start),
        "key": _text(sample.key),
        "offset": sample.start,
        "length": sample.stop - sample.start,
        "members": [(_text(part.extension), part.offset, part.length) for part in sample.parts],
        "reason": sample.reason or poison,
        "detail": detail_of(sample.detail) or None,
    }
    if found["reason"] is not None:
        return found
    try:
        image, text, metadata = parse(sample, caption)
        header = inspect(image, limits)
        for index, view in enumerate(views):
            assert into is not None
            into[index] = decode(image, limits, view.size, view.mode, header)
        if not views:  # no scorer needs pixels, but a sample is only usable if it can be decoded
            expect_decodable(image, limits, header)
    except ImageError as error:
        found["reason"], found["detail"] = error.reason, detail_of(str(error))
        return found
    except (TutelageError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (a decoder failed on this sample's bytes: only this sample is lost)
        _log.warning("%s: sample %d: %s: %s", shard.key, row, type(error).__name__, error)
        found["reason"], found["detail"] = "poison_raised", detail_of(f"{type(error).__name__}: {error}")
        if into is not None:
            into[:] = [None] * len(into)
        return found
    found["origin"] = origin_of(metadata)
    found |= {"caption": text, "format": header.format, "width": header.width, "height": header.height}
    found["content_hash"] = content_of(image)
    for name in fields:
        found[FIELD + name] = field_text(metadata, name)
    return found


class _Rows:
    """The columns of one unit's next table, under construction."""

    def __init__(self, shard: ShardRef, reader: UnitReader) -> None:
        self.shard = shard
        self.reader = reader
        self.row = 0
        self.again = SecondRead(reader.store, shard)
        self._clear()

    def _clear(self) -> None:
        self.facts: list[dict[str, Any]] = []
        self.end: list[bool] = []
        self.pixels: list[list[Pixels | None]] = [[] for _ in self.reader.views]

    @property
    def full(self) -> bool:
        return len(self.end) >= ROWS_PER_TABLE

    def add(self, sample: TarSample) -> None:
        found, views = self._facts(self.row, sample)
        reason = found["reason"]
        if reason and not sample.reason and self.row not in self.reader.poison and reason not in SURE:
            self.again.add(len(self.end), sample)
        self._append(found, views, end=False)
        self.row += 1

    def _facts(self, row: int, sample: TarSample) -> tuple[dict[str, Any], list[Pixels | None]]:
        """Return the index row of a sample, and its pixels for each view."""
        views: list[Pixels | None] = [None] * len(self.reader.views)
        reader, watch, poison = self.reader, self.reader.watch, self.reader.poison.get(row)
        if watch is not None:
            watch(self.shard, row)
        found = facts(
            self.shard, row, sample, reader.limits, reader.views, views, reader.caption, poison, reader.fields
        )
        if watch is not None:
            watch(self.shard, -1)
        return found, views

    def add_end(self, reason: str | None, detail: str | None = None) -> None:
        self._append({"row": self.row, "reason": reason, "detail": detail}, [None] * len(self.reader.views), end=True)

    def _append(self, facts: dict[str, Any], views: list[Pixels | None], *, end: bool) -> None:
        self.facts.append(facts)
        for column, view in zip(self.pixels, views, strict=True):
            column.append(view)
        self.end.append(end)

    def take(self) -> pa.Table:
        """Return the rows so far, after their second read: `STREAM_SCHEMA`, the json's fields and the views' pixels.

        Raises `StoreError` if reads differ. No sample is being decoded while the store is read.
        """
        for position, sample in self.again.settle():
            self.facts[position], seen = self._facts(self.facts[position]["row"], sample)
            for images, image in zip(self.pixels, seen, strict=True):
                images[position] = image
        n = len(self.end)
        arrays = [
            pa.array([self.shard.key] * n, pa.string()),
            pa.array([self.shard.size] * n, pa.int64()),
            pa.array([self.shard.etag] * n, pa.string()),
            pa.array(self.end, pa.bool_()),
            *(pa.array([facts.get(f.name) for facts in self.facts], f.type) for f in INDEX_SCHEMA),
        ]
        names = list(STREAM_SCHEMA.names)
        for name in self.reader.fields:
            names.append(FIELD + name)
            arrays.append(pa.array([facts.get(names[-1]) for facts in self.facts], pa.string()))
        for view, images in zip(self.reader.views, self.pixels, strict=True):
            arrays.append(_pixel_array(view, images))
            names.append(view_column(view))
        self._clear()
        return pa.Table.from_arrays(arrays, names)


def _text(name: str) -> str:
    """Return a member's name as valid UTF-8 for Arrow: undecodable bytes become U+FFFD."""
    return name if name.isascii() else name.encode(errors="replace").decode(errors="replace")


def _pixel_array(view: Preprocess, images: Sequence[Pixels | None]) -> pa.FixedSizeBinaryArray:
    """Pack images into one fixed-size binary column with a single buffer. Rows without pixels are black, never used."""
    stack = np.zeros((len(images), view.size, view.size, 3), np.uint8)
    for slot, image in zip(stack, images, strict=True):
        if image is not None:
            slot[:] = image
    kind = pa.binary(view.size * view.size * 3)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(images), [None, pa.py_buffer(stack)])
