"""Counts of decisions, as every report shows them: seen = kept + filtered + quarantined, with reasons."""

from __future__ import annotations

from collections.abc import Iterable

KEPT, FILTERED, QUARANTINED = "kept", "filtered", "quarantined"


def tally(rows: Iterable[tuple[str, str | None, int]]) -> dict[str, object]:
    """Counts as every report shows them, from (decision, reason, n)."""
    kept, filtered, quarantined = 0, dict[str, int](), dict[str, int]()
    for decision, reason, n in rows:
        if decision == KEPT:
            kept += n
        else:
            into = filtered if decision == FILTERED else quarantined
            into[reason or ""] = into.get(reason or "", 0) + n
    seen = kept + sum(filtered.values()) + sum(quarantined.values())
    ordered = (dict(sorted(counts.items())) for counts in (filtered, quarantined))
    return {"seen": seen, "kept": kept, **dict(zip((FILTERED, QUARANTINED), ordered, strict=True))}
