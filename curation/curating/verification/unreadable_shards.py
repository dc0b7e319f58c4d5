"""Check of the list of unreadable shards of a snapshot against its hash in the document.

Covered by `tests/jobs/test_damages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from curation.core.errors import StoreError, TutelageError, UserError
from curation.core.types import ShardRef
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.documents import DataObject
from curation.ledger.unreadable import UNREADABLE, listed, read_list
from curation.storage.store import Store

_LOST = "the commit records of the write units, which name these shards, are damaged too: repair those first"


def check_unreadable(
    out: Store, raw: Mapping[str, Any], recorded: Callable[[], Iterable[Mapping[str, Any]]], repairs: RepairWriter
) -> tuple[list[Finding], dict[ShardRef, str] | None]:
    """Check the list; return the findings, and its shards with their reasons or None where they are unknown.

    `recorded`: yields the inputs of the snapshot's write units from their commit records.
    """
    item = raw.get("unreadable")
    if not isinstance(item, Mapping):
        return [], {} if item is None else None  # a document with a field of another type can't be opened
    key, wanted = str(item.get("key", "")), item.get("sha256")
    with suppress(TutelageError, ValueError):
        return [], read_list(out, DataObject.model_validate(dict(item)))
    shards = dict[ShardRef, str]()
    with suppress(KeyError, TypeError, StoreError, UserError):
        for one in recorded():
            if one["reason"] in UNREADABLE:
                shards[ShardRef(one["key"], one["size"], one["etag"])] = one["reason"]
    data = listed(shards)
    what = "is missing, or its sha256 differs from field `unreadable` of the snapshot"
    if sha256(data).hexdigest() != wanted or not key.startswith("data/"):
        return [Finding("list", out.location(key), what, "", _LOST)], None
    finding = Finding("list", out.location(key), what, "it is rebuilt from the commit records of the write units")
    return [finding.done(repairs.put(out, key, data))], shards
