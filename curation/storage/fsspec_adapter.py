"""An fsspec file system over a store, for libraries that need one (pyarrow, DuckDB, pandas). Best effort.

Paths are keys. Never commit through it: fsspec's exclusive create checks first and then writes, so two writers can win.
"""

from __future__ import annotations

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from obstore.fsspec import FsspecStore

from curation.storage.object_store import Bucket
from curation.storage.store import Store


class StoreFileSystem(DirFileSystem):  # type: ignore[misc]
    """A file system whose root is the store's URL. Picklable, because it holds only the Store."""

    cachable = False

    def __init__(self, store: Store) -> None:
        self._store = store
        backend = store._backend
        if not isinstance(backend, Bucket):
            super().__init__(path=store._place.prefix, fs=LocalFileSystem(auto_mkdir=True))
            return
        inner = FsspecStore("s3", skip_instance_cache=True)  # type: ignore[call-overload]  # only the form of its paths
        inner._construct_store = lambda bucket: backend.client  # our client, with its credentials and endpoint
        super().__init__(path=f"{store._place.bucket}/{store._place.prefix}".rstrip("/"), fs=inner)

    def __reduce__(self) -> tuple[object, ...]:
        return StoreFileSystem, (self._store,)
