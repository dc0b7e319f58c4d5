"""The snapshot that refers to a document of the ledger, whose repair can rebuild it.

For error messages only: reads every snapshot's document, newest first, and its index or plan where needed. Each request
is made once, without retries, so that reporting an error never waits for a failing store.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from curation.core.errors import StoreError
from curation.ledger.documents import repair
from curation.ledger.snapshot_keys import numbers_there, read_raw
from curation.storage.parquet import from_parquet
from curation.storage.store import Store, open_store


def repair_of(out: Store, key: str) -> str:
    """Return the fix for a damaged document: repair the newest snapshot, or the older one that refers to it."""
    hasty = open_store(out.url, replace(out.options, patience=0))
    try:
        there = numbers_there(hasty)
        owner = owner_of(hasty, key)
    except StoreError:
        return repair(out.url)
    return repair(f"{out.url}@{owner}" if owner and owner != there[-1] else out.url)


def owner_of(out: Store, key: str) -> int:
    """Return the number of the newest snapshot that refers to the document at `key`; 0 for none."""
    name = key.rpartition("/")[2].partition(".")[0]
    for number in reversed(numbers_there(out)):
        raw = read_raw(out, number) or {}
        if raw.get("plan") == name or (key.startswith("units/") and _indexed(out, raw, name)):
            return number
        if key.startswith("plans/pages/") and _paged(out, str(raw.get("plan")), key):
            return number
    return 0


def _indexed(out: Store, raw: dict[str, object], unit: str) -> bool:
    item = raw.get("manifest")
    try:
        key = str(item["key"]) if isinstance(item, dict) else ""
        return unit in from_parquet(out.get(key), ["unit"]).column("unit").to_pylist()
    except (StoreError, pa.ArrowException, OSError, KeyError, ValueError):
        return False


def _paged(out: Store, plan: str, key: str) -> bool:
    try:
        return key.encode() in out.get(f"plans/{plan}.json")
    except (StoreError, ValueError):
        return False
