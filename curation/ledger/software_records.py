"""Which versions wrote a record: put once a process and store, under the digest that the record holds."""

from __future__ import annotations

import json

from curation.core.software import software, software_id
from curation.storage.store import Store


def record_software(store: Store) -> str:
    """The digest of this process' versions, once these are in the store."""
    versions = software()
    name = software_id(versions)
    if (store.url, name) not in _RECORDED:
        store.create(f"software/{name}.json", json.dumps(versions, sort_keys=True).encode())
        _RECORDED.add((store.url, name))
    return name


_RECORDED: set[tuple[str, str]] = set()
