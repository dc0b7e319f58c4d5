"""Descriptions of differences between stored and recomputed objects: tables by column and row, shards by sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import NotFoundError, TarError
from curation.curating.verification.findings import fields_differ, listed
from curation.ledger.documents import strict_json
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.parquet import from_parquet
from curation.storage.store import Piece, Store


def named_hash(key: str) -> str:
    """The 16 digits of the hash in a data object's name; "" for a name without one."""
    parts = key.rpartition("/")[2].partition(".")[0].split("-")
    return next((part for part in parts[1:] if len(part) == 16), "")


def hash_of(store: Store, key: str) -> tuple[str, int] | None:
    """Compute (sha256, bytes) of an object as a stream; None when it is missing."""
    try:
        size = store.size(key)
    except NotFoundError:
        return None
    hashed = sha256()
    for block in store.blocks(key, size):
        hashed.update(block)
    return hashed.hexdigest(), size


def same_bytes(store: Store, key: str, pieces: Iterable[Piece]) -> tuple[str, int]:
    """Compute (sha256, bytes) of `pieces` if the object at `key` has the same bytes; ("", 0) if it has others or none.

    Reads and hashes while it compares. Stops at the first difference. Raises what `pieces` raises.
    """
    try:
        size = store.size(key)
    except NotFoundError:
        return "", 0
    blocks = store.blocks(key, size)
    hashed, block, at = sha256(), b"", 0
    for piece in pieces:
        hashed.update(piece)
        left = memoryview(piece)
        while len(left):
            if at == len(block):
                block, at = next(blocks, b""), 0
            n = min(len(left), len(block) - at)  # `startswith` takes any buffer, and compares without a copy
            if not n or not block.startswith(left[:n], at):
                return "", 0
            left, at = left[n:], at + n
    return (hashed.hexdigest(), size) if at == len(block) and not next(blocks, b"") else ("", 0)


def read_object(store: Store, key: str) -> dict[str, Any] | None:
    """Read the JSON object at a key without validation; None when it is missing, empty or not a JSON object."""
    try:
        found = strict_json(store.get(key))
    except (NotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found else None


def table_differs(expected: pa.Table, actual: bytes, without: Collection[str] = ()) -> str | None:
    """Describe how the Parquet bytes `actual` differ from the expected rows; None when they don't.

    `without`: columns that are not compared. A missing column of nulls is no difference: an earlier version did not
    write it.
    """
    try:
        found = from_parquet(actual)
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"can't be read: {str(error).splitlines()[0]}"
    lacks = {name for name in expected.schema.names if name not in found.schema.names}
    expected = expected.drop_columns([name for name in lacks if expected.column(name).null_count == expected.num_rows])
    if found.schema.names != expected.schema.names:
        return f"has the columns {listed(found.schema.names)}, not {listed(expected.schema.names)}"
    if found.num_rows != expected.num_rows:
        return f"has {found.num_rows:,} rows, not {expected.num_rows:,}"
    wrong = columns_differ(expected, found, without)
    if not wrong:
        return None
    rows = (n for n in range(expected.num_rows) if _value(expected, wrong, n) != _value(found, wrong, n))
    row = next(rows, 0)
    return fields_differ(wrong, f"the recomputed values, first in row {row:,}")


def columns_differ(expected: pa.Table, found: pa.Table, without: Collection[str] = ()) -> list[str]:
    """Names of the columns of `expected` that differ or are missing in `found`, a table with as many rows."""
    names = [name for name in expected.schema.names if name not in without]
    there = set(found.schema.names)
    return [name for name in names if name not in there or not _equal(expected.column(name), found.column(name))]


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Whether two columns have equal values; NaN equals NaN."""
    if one.type != other.type or one.null_count != other.null_count:
        return False
    return _same_values(*(pa.concat_arrays(column.chunks or [pa.array([], column.type)]) for column in (one, other)))


def _same_values(one: pa.Array, other: pa.Array) -> bool:
    if not one.is_null().equals(other.is_null()):
        return False
    if pa.types.is_struct(one.type):
        return all(_same_values(*pair) for pair in zip(one.flatten(), other.flatten(), strict=True))
    if pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type):
        lengths = (pc.list_value_length(array) for array in (one, other))
        return next(lengths).equals(next(lengths)) and _same_values(one.flatten(), other.flatten())
    if pa.types.is_floating(one.type):
        left, right = (array.drop_null().to_numpy(zero_copy_only=False) for array in (one, other))
        return np.array_equal(left, right, equal_nan=True)
    return bool(one.equals(other))


def _value(table: pa.Table, names: Sequence[str], row: int) -> list[str]:
    return [repr(table.column(name)[row].as_py()) for name in names]


def first_difference(store: Store, key: str, path: Path, size: int) -> str:
    """Describe the first difference between a stored output shard and the recomputed file: sample and members.

    For a broken archive only that is reported, because samples at its end lack members.
    """
    with path.open("rb") as file:
        ours = read_samples(iter(lambda: file.read(8 << 20), b""), path.stat().st_size)
        theirs = read_samples(store.blocks(key, size), size)
        try:
            found = next(filter(None, (_difference(one, next(theirs, None)) for one in ours)), "")
            surplus = sum(1 for _ in theirs)
        except TarError as error:
            return f"is a broken archive: {error.reason}"
    if not found and surplus:
        return f"has {surplus:,} samples that the manifest does not keep"
    return found or "differs in bytes outside of samples"


def _difference(one: TarSample, other: TarSample | None) -> str:
    if other is None:
        return f"ends before sample {one.key}"
    if (one.key, one.start) != (other.key, other.start):
        return f"has sample {other.key!r} in the place of {one.key}"
    ours, theirs = ({part.extension: part.data for part in item.parts} for item in (one, other))
    wrong = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return f"sample {one.key}: {listed(wrong)} differ from the input's" if wrong else ""
