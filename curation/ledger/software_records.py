"""Records of software versions: one object per set of versions, under the digest that commit records hold."""

from __future__ import annotations

import json

from curation.core.software import software, software_id
from curation.storage.store import Store


def record_software(store: Store) -> str:
    """Put the versions of this process's packages, once per process and store, and return their digest."""
    versions = software()
    name = software_id(versions)
    if (store.url, name) not in _RECORDED:
        store.create(f"software/{name}.json", json.dumps(versions, sort_keys=True).encode())
        _RECORDED.add((store.url, name))
    return name


_RECORDED: set[tuple[str, str]] = set()
