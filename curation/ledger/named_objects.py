"""Objects that a ledger's documents name with their sha256, read and checked."""

from __future__ import annotations

from hashlib import sha256

from curation.core.errors import LedgerError, NotFoundError
from curation.storage.store import Store


def read_named(store: Store, key: str, sha: str, fix: str) -> bytes:
    """Read an object and check its sha256, which a document of the ledger records (1 ms a megabyte).

    Raises `LedgerError` with `fix` if the object is gone or has another sha256.
    """

    def checked(data: bytes) -> bytes:
        if sha256(data).hexdigest() != sha:
            raise LedgerError(f"{store.location(key)} is damaged: it has another sha256 than the ledger", fix=fix)
        return data

    try:
        return store.get_parsed(key, checked)
    except NotFoundError:
        raise LedgerError(f"{store.location(key)} is gone, though the ledger names it", fix=fix) from None
