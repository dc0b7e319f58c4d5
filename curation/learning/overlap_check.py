"""Overlap between the data of a run: no sample is trained on twice by accident, nor judged on after training on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from curation.core.errors import UserError
from curation.dataset.manifest import Streams
from curation.dataset.snapshot import Snapshot
from curation.learning.sources import RunData
from curation.storage.tables import scratch

_FIX = "name one of them; sample weights of a snapshot repeat samples on purpose"


def expect_disjoint(data: Sequence[RunData]) -> None:
    """Raise `UserError` where two sources share samples: a shard, a snapshot and its source, or kept samples.

    Copies count as the same: shards of one size and etag. Two snapshots that may share samples, but can't be compared,
    are refused as well. Cost: two strings a shard; for two snapshots of one corpus, a pass over three columns of their
    manifests.
    """
    for one, other in combinations(data, 2):
        if shared := overlap(one, other):
            raise UserError(shared, fix=_FIX)


def expect_held_out(evaluation: RunData, data: Sequence[RunData]) -> None:
    """Raise `UserError` where the evaluation data share samples with the training data."""
    for one in data:
        if shared := overlap(evaluation, one):
            fix = "other evaluation data; or no evaluation, and holdout: 0.05, a share of the names"
            raise UserError(f"the data to judge on may not be trained on: {shared}", fix=fix)


def overlap(one: RunData, other: RunData) -> str:
    """Describe the samples that two sources share; "" where they share none."""
    if both := one.own_shards.keys() & other.own_shards.keys():
        where, too = one.own_shards[min(both)], other.own_shards[min(both)]
        return f"{where} is in {one.url} and in {other.url}" + (f", as {too}" if where != too else "")
    for snapshot, source in ((one, other), (other, one)):
        if snapshot.origins.keys() & source.own_shards.keys():
            return f"{snapshot.url} was made from shards of {source.url}"
    if one.snapshot is None or other.snapshot is None or not (both := one.origins.keys() & other.origins.keys()):
        return ""
    if not one.source_shards.keys() & other.source_shards.keys():
        where = one.origins[min(both)]
        return f"{one.url} and {other.url} may keep the same samples: both come from {where}, by different ways"
    count = _shared(one.snapshot, other.snapshot)
    return f"{one.url} and {other.url} keep {count:,} same samples" if count else ""


def _shared(one: Snapshot, other: Snapshot) -> int:
    """Count the samples that both keep, by shard and offset: a uid depends on the corpus' root, too."""
    kept = []
    with scratch("2GB", "comparing the data of a run") as db, Streams() as streams:
        for name, snapshot in (("a", one), ("b", other)):
            db.register(name, streams.of(snapshot.reader(["source_etag", "source_offset", "decision"])))
            kept.append(f"(SELECT source_etag, source_offset FROM {name} WHERE decision = 'kept')")
        query = f"SELECT count(*) FROM {kept[0]} SEMI JOIN {kept[1]} USING (source_etag, source_offset)"
        ((count,),) = db.execute(query).fetchall()
    return int(count)
