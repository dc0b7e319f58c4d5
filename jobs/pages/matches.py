"""The page of `curate matches --html`: each dropped sample beside the sample of another snapshot that it matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import curation as cu
from curation.core.errors import ChangedError, NotFoundError
from curation.dataset.snapshot import Snapshot
from jobs.pages.gallery import content
from jobs.pages.rendering import SampleView, render, sample_view

_COLUMNS = ["uid", "key", "source_key", "source_etag", "source_offset", "source_length"]


def page(snapshot: Snapshot, rows: Sequence[Mapping[str, Any]], total: int) -> str:
    """Return the page of `rows`, out of `total` matches of a snapshot.

    Reads the bytes of both samples of each row, and one pass over each manifest to find them.
    """
    ours = facts(snapshot, [row["uid"] for row in rows])
    theirs = {}
    for url in sorted({row["against"] for row in rows}):
        other = cu.open(url, options=snapshot.store.options)
        theirs[url] = (other, facts(other, [row["other"] for row in rows if row["against"] == url]))
    shown = [
        {**row, "dropped": _view(snapshot, ours, row["uid"]), "matched": _view(*theirs[row["against"]], row["other"])}
        for row in rows
    ]
    return render("matches.html", snapshot=f"{snapshot.store.url}@{snapshot.number}", rows=shown, total=total)


def facts(snapshot: Snapshot, uids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the manifest's rows of these samples, by uid. One pass over the manifest."""
    query = "SELECT * FROM manifest WHERE uid IN (SELECT unnest($uids::VARCHAR[]))"
    rows = snapshot.manifest.query(query, _COLUMNS, {"uids": list(dict.fromkeys(uids))}).to_pylist()
    return {row["uid"]: row for row in rows}


def _view(snapshot: Snapshot, rows: Mapping[str, dict[str, Any]], uid: str) -> SampleView:
    if uid not in rows:
        return SampleView(uid, f"(not in the manifest of {snapshot.store.url}@{snapshot.number})")
    try:
        return sample_view(uid, *content(snapshot, rows[uid]))
    except (NotFoundError, ChangedError):  # sources may be deleted; the match remains true
        return SampleView(uid, f"(source deleted or changed: {rows[uid]['source_key']})")
