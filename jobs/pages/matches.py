"""The page of `curate matches --html`: pairs of pictures in one file, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import curation as cu
from curation.core.errors import ChangedError, NotFoundError
from curation.core.printable import printable
from curation.dataset.snapshot import Snapshot
from jobs.commands.gallery import content
from jobs.pages.frame import document, jpeg

_COLUMNS = ["uid", "key", "source_key", "source_etag", "source_offset", "source_length"]


def page(snapshot: Snapshot, rows: Sequence[Mapping[str, Any]], total: int) -> str:
    """The whole page. Reads the bytes of the pairs' samples, and the manifests to find them."""
    ours = facts(snapshot, [row["uid"] for row in rows])
    theirs = {}
    for url in sorted({row["against"] for row in rows}):
        other = cu.open(url, options=snapshot.store.options)
        theirs[url] = (other, facts(other, [row["other"] for row in rows if row["against"] == url]))
    cells = []
    for row in rows:
        other, known = theirs[row["against"]]
        said = f"{escape(row['filter'])}.{escape(row['how'])}<br>{row['value']:.4g}"
        left, right = (_of(*side) for side in ((snapshot, ours, row["uid"]), (other, known, row["other"])))
        cells.append(f"<tr><td>{left}</td><td>{said}</td><td>{right}<br>{escape(row['against'])}</td></tr>")
    head = "<tr><th>dropped</th><th>as</th><th>like</th></tr>"
    title = f"{snapshot.store.url}@{snapshot.number}: {len(rows):,} of {total:,} matches"
    body = f"<h1>{escape(title)}</h1>\n<table>{head}\n" + "\n".join(cells) + "</table>"
    return document("matches", body)


def facts(snapshot: Snapshot, uids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The manifest's rows of these samples, by uid. One pass over the manifest."""
    query = "SELECT * FROM manifest WHERE uid IN (SELECT unnest($uids::VARCHAR[]))"
    rows = snapshot.manifest.query(query, _COLUMNS, {"uids": list(dict.fromkeys(uids))}).to_pylist()
    return {row["uid"]: row for row in rows}


def _of(snapshot: Snapshot, rows: Mapping[str, dict[str, Any]], uid: str) -> str:
    if uid not in rows:
        return f"(not in the manifest of {escape(snapshot.store.url)}@{snapshot.number})<br><code>{escape(uid)}</code>"
    return _sample(snapshot, rows[uid])


def _sample(snapshot: Snapshot, row: dict[str, Any]) -> str:
    try:
        pixels, caption = content(snapshot, row)
    except (NotFoundError, ChangedError):  # a source may go; what was found about it stays
        pixels, caption = None, f"(no longer where it was: {row['source_key']})"
    picture = "" if pixels is None else f'<img alt="" src="data:image/jpeg;base64,{jpeg(pixels)}"><br>'
    return f"{picture}{escape(printable(caption[:200]))}<br><code>{escape(row['uid'])}</code>"
