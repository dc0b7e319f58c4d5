"""Differences between two snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

import duckdb
import yaml

from curation.dataset.manifest import Streams
from curation.dataset.snapshot import Snapshot
from curation.ledger.unreadable import read_list
from curation.storage.tables import scratch


def diff(left: Snapshot, right: Snapshot) -> dict[str, Any]:
    """Compare two snapshots: samples by uid, input shards by key and etag, and the recipes line by line.

    Returns a JSON object: counts of samples that are kept in both, entered and left, the changes of decision with their
    counts, the keys of changed shards, and the changed lines of the recipe. Cost: hash joins of a few columns in
    DuckDB, out of core; only counts and the keys of changed shards reach Python.
    """
    with scratch("2GB", "comparing two snapshots") as db, Streams() as streams:
        for name, snapshot in (("a", left), ("b", right)):
            reader = snapshot.reader(["uid", "decision", "reason", "source_key", "source_etag"])
            db.register(f"{name}_rows", streams.of(reader))
            db.execute(f"CREATE TABLE {name} AS SELECT * REPLACE (coalesce(reason, '') AS reason) FROM {name}_rows")
            db.unregister(f"{name}_rows")
        rows = db.execute(
            """SELECT coalesce(a.decision, 'absent'), coalesce(b.decision, 'absent'),
                      coalesce(a.reason, ''), coalesce(b.reason, ''), count(*)
               FROM a FULL JOIN b USING (uid) GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        shards = _without_set_aside(_shards(db), left, right)
    changed = [row for row in rows if row[0] != row[1] or row[2] != row[3]]
    return {
        "from": left.number,
        "to": right.number,
        "kept_in_both": sum(r[4] for r in rows if r[0] == r[1] == "kept"),
        "entered": sum(r[4] for r in changed if r[0] != "kept" and r[1] == "kept"),
        "left": sum(r[4] for r in changed if r[0] == "kept" and r[1] != "kept"),
        "changes": [{"was": _state(r[0], r[2]), "is": _state(r[1], r[3]), "samples": r[4]} for r in changed],
        "shards": shards,
        "recipe": _lines(left.document["recipe"], right.document["recipe"]),
    }


def _shards(db: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Keys of input shards that were added, changed (another etag) or removed. Shards without samples are absent."""
    rows = db.execute(
        """SELECT CASE WHEN a.key IS NULL THEN 'added' WHEN b.key IS NULL THEN 'removed' ELSE 'changed' END, key
           FROM (SELECT DISTINCT source_key AS key, source_etag AS etag FROM a) a
           FULL JOIN (SELECT DISTINCT source_key AS key, source_etag AS etag FROM b) b USING (key)
           WHERE a.etag IS DISTINCT FROM b.etag ORDER BY ALL"""
    ).fetchall()
    return {name: [key for what, key in rows if what == name] for name in ("added", "changed", "removed")}


def _lines(left: Any, right: Any) -> list[str]:
    """Changed lines of two recipes, `-` for the left and `+` for the right."""
    before, after = (yaml.safe_dump(value, sort_keys=False).splitlines() for value in (left, right))
    return [line for line in unified_diff(before, after, lineterm="", n=0) if not line.startswith(("---", "+++", "@@"))]


def _state(decision: str, reason: str) -> str:
    return f"{decision}({reason})" if reason else decision


def _without_set_aside(shards: Mapping[str, Sequence[str]], left: Snapshot, right: Snapshot) -> dict[str, list[str]]:
    """Move shards that the store refused to read from `removed` to `unreadable`, and from `added` to `readable`.

    One snapshot was created without such shards, so they are neither removed nor added.
    """
    before, after = (
        {shard.key for shard in read_list(one.store, one.document.unreadable)} for one in (left, right)
    )  # fmt: skip
    lost, back = (
        [key for key in shards[name] if key in known] for name, known in (("removed", after), ("added", before))
    )
    rest = {name: [key for key in keys if key not in {*lost, *back}] for name, keys in shards.items()}
    return {**rest, "unreadable": lost, "readable": back}
