"""The check that no sample is lost: seen = kept + filtered + quarantined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.core.errors import ConservationError


def check_conservation(counts: Mapping[str, Any]) -> None:
    """Raise `ConservationError` unless seen = kept + sum(filtered) + sum(quarantined).

    `counts`: a record or a snapshot's totals. The record of a score table has no decisions, so it passes unchecked.
    """
    if "kept" not in counts:
        return
    kept, filtered, quarantined = counts["kept"], counts["filtered"], counts["quarantined"]
    total = kept + sum(filtered.values()) + sum(quarantined.values())
    if counts["seen"] != total:
        where = counts.get("key") or counts.get("kind") or "the snapshot"
        parts = f"kept {kept} + filtered {sum(filtered.values())} + quarantined {sum(quarantined.values())}"
        raise ConservationError(f"the counts of {where} do not add up: seen {counts['seen']} != {parts}")
