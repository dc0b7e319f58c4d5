"""Summary of a snapshot, as `curate show --json` prints it."""

from __future__ import annotations

from typing import Any

from curation.dataset.evaluations import attached
from curation.dataset.snapshot import Snapshot, plain_location


def summary(snapshot: Snapshot) -> dict[str, Any]:
    """Summarise a snapshot as JSON: number, parent, fingerprints, counts, shards, groups, evaluations."""
    keys = ("snapshot", "parent", "recipe_sha256", "fingerprints", "units", "samples")
    shards = [
        {
            "url": plain_location(snapshot.store.location(row["key"])),
            **{key: row[key] for key in ("sha256", "samples", "bytes")},
        }
        for row in snapshot.shards.to_pylist()
    ]
    stale, added = snapshot.document.get("stale_edits"), snapshot.document.get("added")
    return {
        **{key: snapshot.document[key] for key in keys},
        "shards": shards,
        "groups": snapshot.groups,
        "evaluations": attached(snapshot),
        **({"stale_edits": stale} if stale else {}),
        **({"added": added["samples"]} if added else {}),
    }
