"""Shards that the store refuses for good, in runs whose recipe says `on_unreadable: quarantine`.

Such a shard has no score table, so that no other run takes it for scored: each run that has something to score tries it
again (one request). The snapshot that was made without it names it, with the reason, in a list of its own; for that
snapshot it is a quarantined unit of no samples. Failures that may pass (503, timeouts), a shard that was overwritten
after it was planned, and a bucket that is not there are never set aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.core.types import ShardRef
from curation.ledger.documents import REPAIR, DataObject
from curation.ledger.ledger import read_named
from curation.storage.store import Store

#: code of a `StoreError` -> reason of the unit
REASONS = {
    "access_denied": "store_access_denied",
    "object_archived": "store_archived",
    "not_found": "store_not_found",
}
UNREADABLE = frozenset(REASONS.values())
MOST = 0.5  # of a plan's shards; beyond it, credentials or the plan are what is wrong


def reason_of(failure: str) -> str | None:
    """The reason for a failure, `code: message`, that is set aside; None for any other."""
    return REASONS.get(failure.partition(": ")[0])


def listed(shards: Mapping[ShardRef, str]) -> bytes:
    """The list as JSON: [key, size, etag, reason] each, sorted. Equal lists are equal bytes."""
    return canonical(sorted([*shard, reason] for shard, reason in shards.items()))


def by_reason(shards: Mapping[ShardRef, str]) -> dict[str, int]:
    """How many shards there are of each reason, sorted by reason."""
    return dict(sorted(Counter(shards.values()).items()))


def read_list(store: Store, item: DataObject | None) -> dict[ShardRef, str]:
    """The shards that a snapshot was made without. Raises `LedgerError`."""
    if item is None:
        return {}
    try:
        rows = json.loads(read_named(store, item.key, item.sha256, REPAIR))
        return {ShardRef(str(key), int(size), str(etag)): str(reason) for key, size, etag, reason in rows}
    except (ValueError, TypeError):
        raise LedgerError(f"{store.location(item.key)} is damaged: it is no list of shards", fix=REPAIR) from None
