"""The summary of a snapshot: counts that add up, and shards that plain readers can open."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from curation.dataset.snapshot import Snapshot
from curation.dataset.summary import summary


def test_it_is_json_whose_counts_add_up(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    found = json.loads(json.dumps(summary(two_snapshots[1])))
    samples = found["samples"]
    parts = samples["kept"] + sum(samples["filtered"].values()) + sum(samples["quarantined"].values())
    assert samples["seen"] == parts
    assert (found["snapshot"], found["parent"]) == (2, 1)
    assert sum(shard["samples"] for shard in found["shards"]) == samples["kept"]
    assert found["evaluations"] == []


def test_shards_are_where_it_says(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    for shard in summary(two_snapshots[0])["shards"]:
        data = Path(shard["url"].removeprefix("file://")).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
