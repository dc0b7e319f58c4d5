"""Input shards that a snapshot quarantined whole: unreadable ones, and archives without a readable sample.

Their number of samples is unknown, so they have no rows in the manifest and are not in the counts of samples. Cost: one
small GET a write unit, until all quarantined shards of the snapshot are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curation.core.errors import LedgerError
from curation.core.parallel import map_ordered
from curation.dataset.snapshot import Snapshot
from curation.ledger.documents import WriteRecord, repair
from curation.ledger.ledger import Ledger

DETAIL = "the whole shard; how many samples it holds is not known"


def whole_shards(snapshot: Snapshot, reason: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield rows like those of `Manifest.quarantined`, in source order; `uid` and `key` are None.

    `reason`: only shards with this reason. Raises `LedgerError` for a commit record that is missing or damaged.
    """
    left = snapshot.document.units.quarantined
    if not left or (reason is not None and reason not in snapshot.document.units.reasons and _knows_reasons(snapshot)):
        return
    units = list(dict.fromkeys(snapshot.parts.column("unit").to_pylist()))
    for record in map_ordered(lambda unit: _record(snapshot, unit), units):
        for item in record.inputs:
            if item.reason is None:
                continue
            left -= 1
            if not item.seen and reason in (None, item.reason):
                yield {
                    **{"uid": None, "key": None, "decision": "quarantined", "reason": item.reason, "detail": DETAIL},
                    **{"source_key": item.key, "source_etag": item.etag},
                    **{"source_offset": 0, "source_length": item.size},
                }
        if not left:
            return


def _knows_reasons(snapshot: Snapshot) -> bool:
    """Whether the document counts reasons; a document of an earlier version does not."""
    return bool(snapshot.document.units.reasons)


def _record(snapshot: Snapshot, unit: str) -> WriteRecord:
    record = Ledger(snapshot.store).find(unit, WriteRecord)
    if record is None:
        where, fix = snapshot.store.location(f"units/{unit}.json"), repair(f"{snapshot.store.url}@{snapshot.number}")
        raise LedgerError(f"{where} is missing, so the shards that it quarantined are unknown", fix=fix)
    return record
