"""Checks that one score table and its commit record belong to their unit.

They compare key, size, etag, fingerprint, uids, counts, hashes and names. The values come from models, and
`model_scores` checks them. Covered by `tests/jobs/test_damages.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import NotFoundError
from curation.core.types import ShardRef
from curation.curating.verification.differences import named_hash
from curation.curating.verification.findings import fields_differ
from curation.curating.verification.versions import Versions, is_newer
from curation.ledger import score_tables, score_values
from curation.ledger.attempts import REASONS, UNSCORED
from curation.ledger.ledger import Ledger, unit_id
from curation.storage.parquet import from_parquet

_DIGEST = re.compile(r"[0-9a-f]{16}")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class DeclaredFields:
    """Permitted values of the fields that score records declare about themselves.

    `called`: fingerprint -> the names of its column in plans; any name is permitted for another fingerprint, since
    other datasets may share the scores. `kinds`: column -> the type of its scorer's values. `versions`: all known sets
    of software versions.
    """

    called: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kinds: Mapping[str, pa.DataType] = field(default_factory=dict)
    versions: Versions = field(default_factory=dict)

    def fixed(self, record: Record | None, column: score_tables.Column) -> dict[str, Any]:
        """The wrong fields of a record that don't follow from the unit, with their right values."""
        right: dict[str, Any] = {}
        if record and record.get("column") not in self.called.get(column.fingerprint, {record.get("column")}):
            right["column"] = column.name
        software = record.get("software") if record else None
        if software is not None and not (isinstance(software, str) and _DIGEST.fullmatch(software)):
            right["software"] = None
        return right

    def has_kind(self, column: score_tables.Column, values: pa.ChunkedArray) -> bool:
        """Whether a column has the type of its scorer's values; vectors may have any width."""
        kind = self.kinds.get(column.name, values.type)
        return values.type == kind or (score_values.is_vector(values.type) and score_values.is_vector(kind))

    def is_newer(self, record: Record | None) -> bool:
        """Whether a record is known to be created by a later version."""
        return is_newer([self.versions.get(str(record.get("software")), {})] if record else [])


def stored_values(
    scored: Ledger, shard: ShardRef, column: score_tables.Column, record: Record | None, index: pa.Table | None
) -> tuple[str, str, str, pa.ChunkedArray | None]:
    """Read a score table; return (code, location, damage, values).

    The values are None unless the table is intact and belongs to the unit. `index`: the unit's uids, None where
    unknown.
    """
    store, unit = scored.store, unit_id(shard, column.fingerprint)
    key = f"units/{unit}.json"
    if record is None:
        damage = "is not the JSON of a record" if store.exists(key) else "has not been scored, or its record is missing"
        return "score_record", store.location(key), damage, None
    named = record.get("data")
    data_key = str(named.get("key", "")) if isinstance(named, dict) else ""
    if not data_key.startswith(f"data/{unit}-"):
        wanted = {**shard._asdict(), "fingerprint": column.fingerprint}
        wrong = [name for name, value in wanted.items() if record.get(name) != value]
        return "score_record", store.location(key), fields_differ([*wrong, "data.key"], "those of the unit"), None
    where = store.location(data_key)
    try:
        data = store.get(data_key)
    except NotFoundError:
        return "score_table", where, "is missing", None
    if sha256(data).hexdigest()[:16] != named_hash(data_key):
        return "score_table", where, "its bytes don't match the hash in its name", None
    try:
        table = from_parquet(data, ["uid", "value"])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return "score_table", where, "is not a Parquet table of uids and values", None
    if index is None:
        return "score_table", where, "", None
    if not table.column("uid").equals(index.column("uid")):
        return "score_table", where, "its uids are not those of the unit", None
    return "", where, "", table.column("value")


def believable_poison(record: Record | None, values: pa.ChunkedArray) -> dict[int, str]:
    """The plausible rows of a record's `poison`, with their reasons.

    Only a run learns why a value is null, so an entry is accepted when its row exists and has no value, and its reason
    is a known one.
    """
    said = record.get("poison") if record else None
    if not isinstance(said, Mapping):
        return {}
    rows = {str(row) for row in pc.indices_nonzero(pc.invert(score_values.has_value(values))).to_pylist()}
    known = REASONS.keys() | UNSCORED.keys()
    return {int(row): why for row, why in said.items() if row in rows and isinstance(why, str) and why in known}
