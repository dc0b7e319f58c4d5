"""Data sources of a run, resolved once: what a URL stands for is a value that is passed down, never looked up again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from curation.core.digest import digest
from curation.core.types import ShardRef
from curation.dataset.corpus import open_corpus
from curation.dataset.loader import ListedShard
from curation.dataset.open_shards import latest_of, list_shards
from curation.dataset.random_subset import source_store
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.dataset.snapshot import Snapshot, open_snapshot
from curation.ledger.ledger import Ledger
from curation.storage.store import Store, StoreOptions

ShardKeys = dict[str, str]  # a shard's location, and its size and etag, by which copies are recognised -> its location


@dataclass(frozen=True)
class RunData:
    """The data at one URL, pinned. `snapshot` is None for a bare corpus; `url` has the number of a snapshot."""

    url: str
    shards: Sequence[ListedShard]
    snapshot: Snapshot | None

    @cached_property
    def weights(self) -> SampleWeights:
        """The sample weights of a snapshot's manifest; all alike for a corpus. Reads one column."""
        return ALIKE if self.snapshot is None else self.snapshot.weights()

    @cached_property
    def sha256(self) -> str:
        """The hash of the shards by content, so that a copied corpus has the same."""
        return listing_sha256(self.shards)

    @cached_property
    def own_shards(self) -> ShardKeys:
        """The shards of this source."""
        return _keys((shard.store, shard.ref) for shard in self.shards)

    @cached_property
    def source_shards(self) -> ShardKeys:
        """The shards that a snapshot was made from."""
        return {} if self.snapshot is None else _planned(self.snapshot)

    @cached_property
    def origins(self) -> ShardKeys:
        """The source shards, those of the snapshot that they belong to, and so on. Reads the plan of each."""
        found, snapshot = dict(self.source_shards), self.snapshot
        while snapshot is not None:
            corpus = Ledger(snapshot.store).open_plan(snapshot.document["plan"]).document["corpus"]
            number = corpus["snapshot"]
            snapshot = None if number is None else open_snapshot(corpus["root"], number, snapshot.store.options)
            found |= {} if snapshot is None else _planned(snapshot)
        return found


def resolve(url: str, options: StoreOptions) -> RunData:
    """Return the data at `url` as it is now: a snapshot (`URL`, `URL@7`, `URL@latest`) or the shards of a corpus.

    Cost: a listing of the corpus, or the documents of the snapshot. Raises `EmptyCorpusError` without shards.
    """
    corpus = open_corpus(latest_of(url, options), options)
    if corpus.snapshot is None:
        return RunData(url, list_shards(corpus), None)
    snapshot = open_snapshot(corpus.root, corpus.snapshot, options)
    pinned = f"{snapshot.store.url.removeprefix('file://').rstrip('/')}@{snapshot.number}"
    return RunData(pinned, snapshot.loader_shards(), snapshot)


def listing_sha256(shards: Iterable[ListedShard]) -> str:
    """Return the hash of shards by content, so that a copied corpus has the same."""
    return digest([list(shard.ref.content) for shard in shards])


def _planned(snapshot: Snapshot) -> ShardKeys:
    store = source_store(snapshot)
    return _keys((store, ref) for ref in Ledger(snapshot.store).open_plan(snapshot.document["plan"]).shards())


def _keys(shards: Iterable[tuple[Store, ShardRef]]) -> ShardKeys:
    found: ShardKeys = {}
    for store, ref in shards:
        where = store.location(ref.key)
        found |= {where: where, f"{ref.size} {ref.etag}" if ref.etag else where: where}
    return found
