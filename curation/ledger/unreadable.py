"""Shards that the store refuses permanently, in runs whose recipe has `on_unreadable: quarantine`.

Such a shard has no score table, so no run mistakes it for scored: each run that has something to score tries it again
(one request). The snapshot created without it lists it with the reason; there it counts as a quarantined unit
without samples. Failures that may pass (503, timeouts), a shard overwritten after planning, and a missing bucket are
never set aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from curation.core.digest import canonical
from curation.core.errors import LedgerError
from curation.core.types import ShardRef
from curation.ledger.documents import REPAIR, DataObject
from curation.ledger.named_objects import read_named
from curation.storage.store import Store

#: code of a `StoreError` -> reason of the unit
REASONS = {
    "access_denied": "store_access_denied",
    "object_archived": "store_archived",
    "not_found": "store_not_found",
}
UNREADABLE = frozenset(REASONS.values())
MOST = 0.5  # the largest share of a plan's shards; above it, the credentials or the plan are wrong


def reason_of(failure: str) -> str | None:
    """Return the unit's reason for a failure `code: message` that is set aside; None for any other failure."""
    return REASONS.get(failure.partition(": ")[0])


def listed(shards: Mapping[ShardRef, str]) -> bytes:
    """Encode the shards as a sorted JSON list of [key, size, etag, reason]: equal lists give equal bytes."""
    return canonical(sorted([*shard, reason] for shard, reason in shards.items()))


def by_reason(shards: Mapping[ShardRef, str]) -> dict[str, int]:
    """Return the number of shards for each reason, sorted by reason."""
    return dict(sorted(Counter(shards.values()).items()))


def read_list(store: Store, item: DataObject | None) -> dict[ShardRef, str]:
    """Read the shards that a snapshot was created without. Raises `LedgerError` if the list is missing or damaged."""
    if item is None:
        return {}
    try:
        rows = json.loads(read_named(store, item.key, item.sha256, REPAIR))
        return {ShardRef(str(key), int(size), str(etag)): str(reason) for key, size, etag, reason in rows}
    except (ValueError, TypeError):
        raise LedgerError(f"{store.location(item.key)} is damaged: it is not a list of shards", fix=REPAIR) from None
