"""No sample is trained on twice by accident, nor judged on after it was trained on: what a run reads is several times
data, never the same data twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from curation.core.errors import UserError
from curation.core.types import ShardRef
from curation.dataset.loader import ListedShard
from curation.dataset.manifest import Streams
from curation.dataset.random_subset import source_store
from curation.dataset.snapshot import Snapshot, open_snapshot
from curation.ledger.ledger import Ledger
from curation.storage.store import Store
from curation.storage.tables import scratch

Places = dict[str, str]  # where a shard lies, and its size and etag, by which copies are known -> where it lies
_FIX = "name one of them; weights of a snapshot make samples come more often on purpose"


@dataclass(frozen=True)
class RunData:
    """What a run reads at one URL; `snapshot`: where it is one."""

    url: str
    shards: Sequence[ListedShard]
    snapshot: Snapshot | None

    @cached_property
    def places(self) -> Places:
        """Of its own shards."""
        return _places((shard.store, shard.ref) for shard in self.shards)

    @cached_property
    def made_from(self) -> Places:
        """Of the shards that it was made from."""
        return {} if self.snapshot is None else _planned(self.snapshot)

    @cached_property
    def origins(self) -> Places:
        """The same, and of a snapshot of a snapshot what that was made from, and so on."""
        found, snapshot = dict(self.made_from), self.snapshot
        while snapshot is not None:
            corpus = Ledger(snapshot.store).open_plan(snapshot.document["plan"]).document["corpus"]
            number = corpus["snapshot"]
            snapshot = None if number is None else open_snapshot(corpus["root"], number, snapshot.store.options)
            found |= {} if snapshot is None else _planned(snapshot)
        return found


def expect_apart(data: Sequence[RunData]) -> None:
    """Raises `UserError` where a shard is in two of the data, where one was made from shards of another, and where two
    snapshots have the same samples, or may have them and can't be told apart.

    Copies are the same: shards of one size and etag. Cost: two strings a shard; of two snapshots of one corpus, a pass
    over three columns of their manifests.
    """
    for one, other in combinations(data, 2):
        if told := overlap(one, other):
            raise UserError(told, fix=_FIX)


def expect_unseen(evaluation: RunData, data: Sequence[RunData]) -> None:
    """Raises `UserError` where what a run is judged on has samples that it is trained on."""
    for one in data:
        if told := overlap(evaluation, one):
            fix = "other samples to judge on; or no evaluation, and holdout: 0.05, a part of the names"
            raise UserError(f"what is judged on may not be trained on: {told}", fix=fix)


def overlap(one: RunData, other: RunData) -> str:
    """What two of them have in common, in words; nothing where they have nothing."""
    if both := one.places.keys() & other.places.keys():
        where, too = one.places[min(both)], other.places[min(both)]
        return f"{where} is in {one.url} and in {other.url}" + (f", as {too}" if where != too else "")
    for snapshot, source in ((one, other), (other, one)):
        if snapshot.origins.keys() & source.places.keys():
            return f"{snapshot.url} was made from shards of {source.url}"
    if one.snapshot is None or other.snapshot is None or not (both := one.origins.keys() & other.origins.keys()):
        return ""
    if not one.made_from.keys() & other.made_from.keys():
        where = one.origins[min(both)]
        return f"{one.url} and {other.url} may keep the same samples: both come from {where}, by different ways"
    count = _shared(one.snapshot, other.snapshot)
    return f"{one.url} and {other.url} keep {count:,} same samples" if count else ""


def _planned(snapshot: Snapshot) -> Places:
    store = source_store(snapshot)
    return _places((store, ref) for ref in Ledger(snapshot.store).open_plan(snapshot.document["plan"]).shards())


def _places(shards: Iterable[tuple[Store, ShardRef]]) -> Places:
    found: Places = {}
    for store, ref in shards:
        where = store.location(ref.key)
        found |= {where: where, f"{ref.size} {ref.etag}" if ref.etag else where: where}
    return found


def _shared(one: Snapshot, other: Snapshot) -> int:
    """Samples that both keep, by shard and place in it: a uid is of its corpus' root too."""
    kept = []
    with scratch("2GB", "comparing the data of a run") as db, Streams() as streams:
        for name, snapshot in (("a", one), ("b", other)):
            db.register(name, streams.of(snapshot.reader(["source_etag", "source_offset", "decision"])))
            kept.append(f"(SELECT source_etag, source_offset FROM {name} WHERE decision = 'kept')")
        query = f"SELECT count(*) FROM {kept[0]} SEMI JOIN {kept[1]} USING (source_etag, source_offset)"
        ((count,),) = db.execute(query).fetchall()
    return int(count)
