"""Reading a corpus's samples in order, and writing shards whose samples have another label: what plants errors.

Cost: one shard is in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from curation.core.types import uid
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.store import Store

FIELD = "label"  # of the json: the planted label


def corpus_samples(source: Store) -> Iterator[tuple[str, TarSample]]:
    """Yield shard and sample of a corpus, in order of the shards' keys."""
    for key in sorted(found.key for found in source.list() if found.key.endswith(".tar")):
        data = source.get(key)
        for sample in read_samples(iter([data]), len(data)):
            yield key, sample


def with_label(document: bytes, label: str) -> bytes:
    """Return a sample's json with another label in `FIELD`."""
    return json.dumps({**json.loads(document), FIELD: label}, ensure_ascii=False, sort_keys=True).encode()


def put_shard(target: Store, key: str, data: bytes) -> dict[str, str]:
    """Store a shard, and return the uid of each of its samples by its name, in order."""
    target.put(key, data)
    etag = target.head(key).etag
    return {one.key or "": uid(key, etag, one.start) for one in read_samples(iter([data]), len(data))}
