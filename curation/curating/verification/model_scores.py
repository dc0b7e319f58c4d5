"""Checks of scores against the models: a seeded share of the units is scored again and compared value by value.

The seed and the snapshot's decisions determine the drawn units, so a check can be repeated, and another seed draws
other units. On the same software values must be equal bit for bit. On other software (another torch, another kind of
device) numbers may differ by `TOLERANCE`, relative to the larger of their magnitude and 1; words and integers must be
equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import canonical
from curation.core.errors import LedgerError, StoreError
from curation.core.types import ShardRef
from curation.curating.verification.differences import read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.ledger import score_tables
from curation.ledger.ledger import Ledger, unit_id

Mask = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 5e-3  # half precision on another device differs by up to 2e-3 in a cosine


def drawn(decision: str, seed: int, shard: ShardRef, share: float) -> bool:
    """Whether a unit is in the seeded `share` (0 to 1) of the units of a snapshot with this decision id."""
    name = sha256(f"{decision}\0{seed}\0{shard.key}\0{shard.etag}".encode()).digest()
    return int.from_bytes(name[:8], "big") < share * 2**64


def compare(
    scored: Ledger, own: Ledger, shard: ShardRef, column: score_tables.Column, repairs: RepairWriter
) -> Iterator[Finding]:
    """Compare the stored score table of a unit with the one just computed (`own`).

    A repair writer that is not dry replaces the stored table, data first and then the record.
    """
    key = f"units/{unit_id(shard, column.fingerprint)}.json"
    where = scored.store.location(key)
    try:
        stored = score_tables.read(scored, shard, column, ["value"]).column("value")
    except (LedgerError, StoreError):
        return  # the check of score tables reports it
    fresh = score_tables.read(own, shard, column, ["value"]).column("value")
    records = [read_object(ledger.store, key) or {} for ledger in (scored, own)]
    same = records[0].get("software") == records[1].get("software")
    wrong = _differing(fresh, stored, 0.0 if same else TOLERANCE)
    if not len(wrong):
        return
    what = f"{column.name} of {shard.key}: {len(wrong):,} values differ from the model's, first in row {wrong[0]:,}"
    data = records[0].get("data", {}).get("key", "")
    finding = Finding(
        "score_value", scored.store.location(data) if data else where, what, "the models' values replace them"
    )
    yield finding.done(_replace(scored, own, key, repairs))


def _replace(scored: Ledger, own: Ledger, key: str, repairs: RepairWriter) -> bool:
    """Replace a table, data first and then the record: a reader finds the old table or the new one."""
    if not repairs.id:
        return False
    record = read_object(own.store, key) or {}
    unit = key.removeprefix("units/").removesuffix(".json")
    item = scored.put_data(unit, own.store.get(record["data"]["key"]), "parquet")
    return repairs.put(scored.store, key, canonical({**record, "data": item.to_json()}))


def _differing(fresh: pa.ChunkedArray, stored: pa.ChunkedArray, tolerance: float) -> Mask:
    """Indices of the rows in which two columns differ."""
    if fresh.type != stored.type or len(fresh) != len(stored):
        return np.arange(max(len(fresh), len(stored)))
    one, other = (pa.concat_arrays(column.chunks or [pa.array([], column.type)]) for column in (fresh, stored))
    return np.flatnonzero(_unlike(one, other, tolerance))


def _unlike(one: pa.Array, other: pa.Array, tolerance: float) -> Mask:
    """Whether two arrays differ in each row: bool [N]."""
    nulls = [np.asarray(array.is_null().to_numpy(zero_copy_only=False)) for array in (one, other)]
    unlike = np.asarray(nulls[0] != nulls[1])
    if pa.types.is_struct(one.type):
        for part in range(one.type.num_fields):
            unlike = unlike | _unlike(one.field(part), other.field(part), tolerance)
        return unlike
    both = ~nulls[0] & ~nulls[1]
    if both.any():
        mask = pa.array(both)
        unlike[both] = _values_unlike(one.filter(mask), other.filter(mask), tolerance)
    return unlike


def _values_unlike(one: pa.Array, other: pa.Array, tolerance: float) -> Mask:
    """As `_unlike`, for non-empty arrays without nulls."""
    if pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type):
        sizes = [pc.list_value_length(array).to_numpy(zero_copy_only=False) for array in (one, other)]
        if not np.array_equal(sizes[0], sizes[1]) or len(set(sizes[0].tolist())) > 1:
            return np.ones(len(one), bool)
        left, right = (array.flatten().to_numpy(zero_copy_only=False).reshape(len(one), -1) for array in (one, other))
        return np.asarray(_far(left, right, tolerance).any(axis=1))
    if pa.types.is_floating(one.type):
        return _far(one.to_numpy(zero_copy_only=False), other.to_numpy(zero_copy_only=False), tolerance)
    return np.asarray(pc.not_equal(one, other).to_numpy(zero_copy_only=False))


def _far(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], tolerance: float) -> Mask:
    """Whether numbers differ by more than the tolerance, or at all where it is 0; NaN equals NaN."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    near = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        near |= np.abs(one - other) <= tolerance * np.maximum(1, np.maximum(np.abs(one), np.abs(other)))
    return np.asarray(~near)
