"""What a URL that a run is given stands for: a snapshot, its number, the weights of its samples."""

from __future__ import annotations

from collections.abc import Iterable

from curation.core.digest import digest
from curation.dataset.corpus import open_corpus
from curation.dataset.loader import ListedShard
from curation.dataset.open_shards import latest_of
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.dataset.snapshot import Snapshot, open_snapshot
from curation.storage.store import StoreOptions


def pinned(url: str, options: StoreOptions) -> str:
    """`URL@7` for a snapshot, whose latest may become another while it is read; everything else as it is."""
    found = snapshot_of(url, options)
    return url if found is None else f"{found.store.url.removeprefix('file://').rstrip('/')}@{found.number}"


def snapshot_of(url: str, options: StoreOptions) -> Snapshot | None:
    """The snapshot that a URL (`URL`, `URL@7`, `URL@latest`) speaks of; None where it is a bare corpus."""
    corpus = open_corpus(latest_of(url, options), options)
    return None if corpus.snapshot is None else open_snapshot(corpus.root, corpus.snapshot, options)


def weights_of(url: str, options: StoreOptions | None) -> SampleWeights:
    """What the samples at a URL weigh: all alike, but in a snapshot whose manifest says otherwise."""
    snapshot = snapshot_of(url, options or StoreOptions())
    return ALIKE if snapshot is None else snapshot.weights()


def listing_sha256(shards: Iterable[ListedShard]) -> str:
    """Of shards by content, so that a copied corpus has the same."""
    return digest([list(shard.ref.content) for shard in shards])
