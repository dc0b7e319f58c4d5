"""The protocol of a store's backend: local files and buckets implement it, `curation.storage.store` calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from curation.storage.urls import ObjectInfo


class Backend(Protocol):
    """Low-level requests by full key. Each call is one attempt: `TransientError` asks for a retry, others are final.

    `where` is the URL or directory that messages name.
    """

    where: str

    def check(self) -> None:
        """Raise `BucketError` if the bucket or directory does not exist."""
        ...

    def renew_credentials(self) -> bool:
        """Replace credentials that were refused; return whether there are fresh ones to try."""
        ...

    def list(self, prefix: str, etags: bool, after: str) -> Iterator[ObjectInfo]:
        """Yield the objects below `prefix` after the key `after`; without `etags` the etag may be empty."""
        ...

    def unfinished(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Yield the temporary files that killed writers left below `prefix`, after the key `after`."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return size, etag and time of an object. Raises `NotFoundError`."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        ...

    def size(self, key: str) -> int:
        """Return the size of an object in bytes. Raises `NotFoundError`."""
        ...

    def open(
        self, key: str, offset: int, length: int | None, etag: str | None, piece: int
    ) -> tuple[ObjectInfo, Iterator[bytes]]:
        """Return an object, pinned to `etag` if given, and its bytes from `offset` in pieces of about `piece` bytes.

        `length` None means to the end. The bytes may end early. Raises `ChangedError` for another etag.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Put an object only if the key is free; return whether it was."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Put or replace an object atomically."""
        ...

    def put_file(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        """Put a file; `progress` is called with the bytes sent so far."""
        ...

    def spool(self, folder: str) -> AbstractContextManager[Path]:
        """Return a path for a new file that `put_spooled` moves to a key in `folder`; deleted when the block ends."""
        ...

    def put_spooled(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        """Put the file of a `spool`, which may be gone afterwards."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        ...
