"""Checks of a snapshot's plan: its document and pages are planned again on local disk and compared.

A plan's id is the hash of its content, so a rebuilt plan with the same id is the plan, whatever its rows and its
context were taken from. Cost: the pages, 1 MB for 10,000 shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.core.digest import canonical, digest
from curation.core.errors import LedgerError, StoreError, UserError
from curation.core.types import ShardRef
from curation.curating.verification.differences import hash_of, read_object, table_differs
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import RepairWriter
from curation.ledger.ledger import Ledger
from curation.ledger.plans import PAGE_SCHEMA, Plan
from curation.storage.parquet import from_parquet
from curation.storage.store import Store

Rows = Callable[[], Iterable[ShardRef]]
_LOST = (
    "neither its pages, nor the commit records, nor the corpus as listed now give this plan's id: restore it from a "
    "backup, or create the next snapshot: `curate run RECIPE`"
)
_BATCH = 10_000


def check_plan(
    out: Store,
    plan_id: str,
    contexts: Sequence[Mapping[str, Any]],
    rows: Sequence[Rows],
    scratch: Store,
    repairs: RepairWriter,
) -> tuple[list[Finding], Plan | None]:
    """Check a plan and its pages; return the findings, and the right plan or None where it is unknown.

    `contexts`: candidates for the planned corpus and fingerprints, besides the stored document. `rows`: sources of the
    shards besides the stored pages. `scratch`: a store on local disk that exists while the returned plan is used.
    """
    key = f"plans/{plan_id}.json"
    stored = read_object(out, key)
    own = [{name: value for name, value in stored.items() if name in ("corpus", "fingerprints")}] if stored else []
    sources = [lambda: _paged(out, stored or {}), *rows]
    planned = _planned(plan_id, [*own, *contexts], sources, scratch)
    if planned is None:
        if stored is not None and digest(stored) == plan_id and _sound(out, stored):
            return [], Ledger(out).open_plan(plan_id)  # of a version whose ids were hashes of the document
        what = "is missing" if stored is None and not out.exists(key) else "its id does not match its content"
        return [Finding("plan", out.location(key), what, "", _LOST)], None
    return list(_compared(out, key, stored, planned, scratch, repairs)), planned


def _planned(
    plan_id: str, contexts: Sequence[Mapping[str, Any]], sources: Sequence[Rows], scratch: Store
) -> Plan | None:
    """Plan every combination of source and context; return the first plan with the id, or None."""
    for source in sources:
        for context in contexts:
            try:
                made = Ledger(scratch).plan(_batches(source()), context)
            except (LedgerError, StoreError, UserError, pa.ArrowException, OSError, KeyError, ValueError, TypeError):
                continue
            if made.id == plan_id:
                return made
    return None


def _batches(shards: Iterable[ShardRef]) -> Iterator[pa.RecordBatch]:
    pending: list[ShardRef] = []
    for shard in shards:
        pending.append(shard)
        if len(pending) == _BATCH:
            yield _batch(pending)
            pending = []
    if pending:
        yield _batch(pending)


def _batch(shards: Sequence[ShardRef]) -> pa.RecordBatch:
    columns = [
        pa.array(column, kind) for column, kind in zip(zip(*shards, strict=True), PAGE_SCHEMA.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PAGE_SCHEMA)


def _paged(out: Store, document: Mapping[str, Any]) -> Iterator[ShardRef]:
    for page in document["pages"]:
        table = from_parquet(out.get(page["key"]), PAGE_SCHEMA.names).cast(PAGE_SCHEMA)
        yield from (ShardRef(*row.values()) for row in table.to_pylist())


def _sound(out: Store, document: Mapping[str, Any]) -> bool:
    try:
        found = [(page["sha256"], hash_of(out, page["key"])) for page in document["pages"]]
    except (KeyError, TypeError, StoreError, UserError):
        return False
    return all(there is not None and there[0] == sha for sha, there in found)


def _compared(
    out: Store, key: str, stored: Mapping[str, Any] | None, planned: Plan, scratch: Store, repairs: RepairWriter
) -> Iterator[Finding]:
    """Compare the stored plan with the recomputed one; pages by rows, because another Arrow writes other bytes."""
    expected = read_object(scratch, f"plans/{planned.id}.json") or {}
    for page in expected["pages"]:
        data = scratch.get(page["key"])
        there = out.get(page["key"]) if out.exists(page["key"]) else None
        what = "is missing" if there is None else table_differs(from_parquet(data), there)
        if what:
            finding = Finding("plan_page", out.location(page["key"]), what, "it is planned again with the same id")
            yield finding.done(repairs.put(out, page["key"], data, aside=False))
    unknown = [name for name in stored or () if name not in expected]  # its id is a hash of all fields
    if wrong := [*differing(expected, stored), *unknown] if stored is not None else ["the document"]:
        what = "is missing or not JSON" if stored is None else fields_differ(wrong, "the plan as planned again")
        finding = Finding("plan", out.location(key), what, "it is planned again with the same id")
        yield finding.done(repairs.put(out, key, canonical(expected)))
