"""The test that a store honours create-only puts, without which nothing can be committed to it."""

from __future__ import annotations

import secrets
from contextlib import suppress

from curation.core.errors import BucketError, NotFoundError, StoreError, UnsafeStoreError
from curation.storage.errors import SAFE_STORES
from curation.storage.store import Store, StoreOptions


def probe(store: Store) -> None:
    """Raise `UnsafeStoreError` if the store ignores create-only puts.

    Makes two small puts, once per process and store. Raises `BucketError` if the store can't be written to.
    """
    if (store.url, store.options) in _PROBED:
        return
    store.check_bucket()  # some stores create a missing bucket on the first put
    key = f".probe/{secrets.token_hex(16)}"
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    try:
        safe = store.create(key, first) and not store.create(key, second) and store.get(key) == first
        text = f"{store.url} ignores create-only puts, so nothing can be committed to it"
    except NotFoundError as error:  # the folder can't be created
        fix = "check the path and its permissions"
        raise BucketError(f"{store.url} can't be written to", fix=fix) from error
    except UnsafeStoreError as error:
        safe = False
        text = f"{store.url} does not support create-only puts, so nothing can be committed to it ({error})"
    finally:
        with suppress(StoreError):  # a leftover probe does no harm, and its error must not hide the cause
            store.delete(key)
    if not safe:
        raise UnsafeStoreError(text, fix=SAFE_STORES)
    _PROBED.add((store.url, store.options))


_PROBED: set[tuple[str, StoreOptions]] = set()
