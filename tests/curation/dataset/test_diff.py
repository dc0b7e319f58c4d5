"""The changes between two snapshots, against sets of uids."""

from __future__ import annotations

from collections import Counter

from curation.dataset.diff import diff
from curation.dataset.snapshot import Snapshot


def rows(snapshot: Snapshot) -> dict[str, tuple[str, str]]:
    """uid -> decision and reason."""
    return {r["uid"]: (r["decision"], r["reason"] or "") for r in snapshot.manifest.to_arrow().to_pylist()}


def test_counts_are_those_of_sets_of_uids(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    was, now = map(rows, two_snapshots)
    found = diff(*two_snapshots)
    kept = [{uid for uid, (decision, _) in side.items() if decision == "kept"} for side in (was, now)]
    assert (found["from"], found["to"]) == (1, 2)
    assert found["kept_in_both"] == len(kept[0] & kept[1])
    assert found["left"] == len(kept[0] - kept[1]) > 0
    assert found["entered"] == len(kept[1] - kept[0]) > 0, "samples of the new shard"
    absent = ("absent", "")
    changes = Counter((was.get(uid, absent), now.get(uid, absent)) for uid in was | now)
    moved = sum(count for (before, after), count in changes.items() if before != after)
    assert sum(change["samples"] for change in found["changes"]) == moved


def test_shards_and_recipe_lines_are_named(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    found = diff(*two_snapshots)
    assert {what: keys for what, keys in found["shards"].items() if keys} == {"added": ["00003.tar"]}
    back = diff(two_snapshots[1], two_snapshots[0])
    assert {what: keys for what, keys in back["shards"].items() if keys} == {"removed": ["00003.tar"]}
    assert (back["entered"], back["left"]) == (found["left"], found["entered"])
    lines = [line.strip("+- ") for line in found["recipe"] if line.startswith(("+", "-"))]
    assert any("min_chars: 32" in line for line in lines)


def test_a_snapshot_does_not_differ_from_itself(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    found = diff(two_snapshots[0], two_snapshots[0])
    assert found["entered"] == found["left"] == 0 and found["changes"] == [] and found["recipe"] == []
    assert found["kept_in_both"] == two_snapshots[0].document["samples"]["kept"]
