"""One interface to S3, GCS, Azure, memory and local directories: open, list, read a range, put, create.

The ledger relies on these guarantees, the same for every store:
- `create` puts only if the key is free; of any number of concurrent writers one wins. If the answer is lost, `create`
  reads the object back.
- `get_range` returns exactly the requested bytes of exactly the object with the given etag, or raises. Never fewer.
- A failure that may pass is retried within a budget (`StoreOptions.patience`), with jitter; a body that was cut off is
  resumed.
- `probe` refuses a store that ignores create-only puts.

Cost: one request a call (10-50 ms from S3), no locks; only clients are cached. A Store pickles as URL and options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from curation.core.errors import ChangedError, StoreError, UserError
from curation.core.parallel import Workers
from curation.storage.backend import Backend
from curation.storage.errors import TransientError, is_web_page
from curation.storage.hashed_file import Piece, write_hashed
from curation.storage.listing import Listing, Resumable
from curation.storage.reading import holds, read_range
from curation.storage.retry import RetryBudget, Stats
from curation.storage.store_waits import waiting
from curation.storage.urls import Location, ObjectInfo, StoreOptions, check_key, parse

__all__ = ["ObjectInfo", "Piece", "Stats", "Store", "StoreOptions", "open_object", "open_store"]

LOOKS, PAGES = 3, 6  # reads before an object counts as damaged; before a web page counts as the object (3 s)

T = TypeVar("T")


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Open the store at a URL or path. Makes no request. Raises `UserError` for a URL that is not accepted."""
    return Store(parse(url), options or StoreOptions())


def open_object(url: str, options: StoreOptions | None = None) -> tuple[Store, str]:
    """Return the store that holds the object at a URL, and the object's key there. Raises `UserError`."""
    place = parse(url)
    parent, _, key = place.prefix.rpartition("/")
    if not key:
        raise UserError(f"{place.url} does not name an object", fix="add the object's key to the URL")
    parent = parent or ("/" if place.scheme == "file" else "")
    return Store(place._replace(prefix=parent), options or StoreOptions()), key


class Store:
    """The objects below one URL; keys are relative to it. Thread-safe."""

    def __init__(self, place: Location, options: StoreOptions) -> None:
        self.url = place.url
        self.options = options
        self.stats = Stats()
        self._place = place
        self._prefix = f"{place.prefix}/" if place.prefix and place.scheme != "file" else ""

    def __reduce__(self) -> tuple[object, ...]:
        return open_store, (self.url, self.options)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def location(self, key: str) -> str:
        """Return the full URL of an object."""
        return f"{self.url}{'' if self.url.endswith('/') else '/'}{key}"

    # --- reading --------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, etags: bool = True) -> Iterator[ObjectInfo]:
        """Stream all objects in the folder `prefix`, at any depth, each once, in no particular order.

        Local files are hashed for their etag; with `etags=False` the etag is empty and nothing is hashed. Raises
        `BucketError` if the bucket or directory does not exist.
        """
        folder = self._folder(prefix)
        yield from self._listed(partial(self._backend.list, folder, etags))

    def unfinished(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Stream the temporary files that killed writers left in a local folder; they are never listed or read."""
        folder = self._folder(prefix)
        yield from self._listed(partial(self._backend.unfinished, folder))

    def head(self, key: str) -> ObjectInfo:
        """Return size, etag and modification time of an object; hashes a local file. Raises `NotFoundError`."""
        return self._retry(lambda: self._backend.head(self._full(key)))._replace(key=key)

    def size(self, key: str) -> int:
        """Return the size of an object in bytes; hashes nothing. Raises `NotFoundError`."""
        return self._retry(lambda: self._backend.size(self._full(key)))

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return self._retry(lambda: self._backend.exists(self._full(key)))

    def get(self, key: str) -> bytes:
        """Return the whole object, all bytes from one state of it. Raises `NotFoundError`."""
        for _ in range(3):
            with suppress(ChangedError):  # replaced between two attempts: start again with the new object
                return self._read(key, 0, None, None)[0]
        raise ChangedError(f"{self.location(key)} changes on every read", fix="run again when it is complete")

    def get_parsed(self, key: str, parse: Callable[[bytes], T]) -> T:
        """Return `parse` of the whole object; if it raises, read the object again.

        A bit flipped in transit, or a proxy's page, is not damage of the object. Raises what `parse` raises once two
        reads agree or `LOOKS` reads have failed.
        """
        budget, seen = self._budget(), set[bytes]()
        while True:
            data = self.get(key)
            try:
                return parse(data)
            except Exception:
                seen.add(sha256(data).digest())
                # A proxy repeats its page: wait between reads.
                page = self._place.scheme != "file" and is_web_page(data)
                last = budget.failures + 1 >= (PAGES if page else min(LOOKS, len(seen) + 1))
                if last or not self.options.patience:
                    raise
                with waiting:
                    budget.spend(TransientError(f"{self.location(key)} can't be parsed"))

    def get_range(self, key: str, offset: int, length: int, etag: str | None = None) -> bytes:
        """Return exactly `length` bytes from `offset`. Raises `ChangedError` unless the object has the given `etag`."""
        return self._read(key, offset, length, etag or None)[0]

    def blocks(
        self, key: str, size: int, etag: str | None = None, block: int = 8 << 20, offset: int = 0
    ) -> Iterator[bytes]:
        """Stream the bytes from `offset` to `size` in blocks of `block` bytes, all from one state of the object.

        Reading starts immediately, on a thread; while the caller uses a block, the next one is read.
        """
        starts = range(offset, size, block)
        if not starts:
            return iter(())
        pool = Workers(1, thread_name_prefix="tutelage-read")
        first = pool.submit(self._read, key, starts[0], min(block, size - starts[0]), etag or None)

        def following() -> Iterator[bytes]:
            with pool:
                with waiting:
                    data, pin = first.result()
                for start in starts[1:]:
                    coming = pool.submit(self._read, key, start, min(block, size - start), pin)
                    yield data
                    with waiting:
                        data, pin = coming.result()
                yield data

        return following()

    # --- writing --------------------------------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        """Put `data` if there is no object at `key`.

        Returns True if the object now has these bytes, False if an object with other bytes was there first.
        """
        full, budget, others = self._full(key), self._budget(), set[bytes]()

        def attempt() -> bool:
            # S3 answers 409 to one of two simultaneous creates, even if the other one then fails.
            failed = TransientError(f"{self.location(key)} is being created by another process")
            try:
                if self._backend.create(full, data):
                    return True
            except TransientError as error:
                # The answer is lost, but the put may have arrived, or may still arrive. The object that exists now
                # decides; if there is none, trying again is safe, because create never replaces.
                failed = error
            found = self._retry(lambda: holds(self._backend, full, data, others, self.location(key)), budget)
            if found is None:
                raise failed
            return found

        done = self._retry(attempt, budget)
        self.stats.add(creates=1, bytes_out=len(data) if done else 0)
        return done

    def put(self, key: str, data: bytes) -> None:
        """Put or replace an object atomically: readers see the old object or all of the new one."""
        self._retry(lambda: self._backend.put(self._full(key), data))
        self.stats.add(puts=1, bytes_out=len(data))

    def put_file(self, key: str, path: str | Path) -> None:
        """Put a file, streamed from disk, in parts if it is large (at most 64 MiB of memory)."""
        self._put_file(self._backend.put_file, key, Path(path))

    def put_hashed(self, pieces: Iterable[Piece], name: Callable[[str], str], folder: str) -> tuple[str, str, int]:
        """Put an object that arrives in pieces, need not fit in memory, and is named by its hash.

        name: returns the key for a sha256 (hexadecimal); it is in `folder`. Returns key, sha256 and size in bytes. The
        bytes are written once to a local store; to others, after a copy on local disk. Raises what `pieces` raises.
        """
        with self._backend.spool(self._full(folder)) as path:
            sha, size = write_hashed(path, pieces)
            key = name(sha)
            self._put_file(self._backend.put_spooled, key, path)
        return key, sha, size

    def _put_file(self, put: Callable[[str, Path, Callable[[int], None]], None], key: str, path: Path) -> None:
        size = path.stat().st_size
        budget, reached = self._budget(), 0

        def progress(position: int) -> None:
            nonlocal reached
            if position > reached:  # bytes sent again after a failure are not progress
                reached = position
                budget.renew()

        self._retry(lambda: put(self._full(key), path, progress), budget)
        self.stats.add(puts=1, bytes_out=size)

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        self._retry(lambda: self._backend.delete(self._full(key)))

    def check_bucket(self) -> None:
        """Raise `BucketError` if the bucket does not exist. A local folder passes: the first put creates it."""
        if self._place.scheme != "file":
            self._retry(self._backend.check)

    # --- details --------------------------------------------------------------------------------------------------

    @cached_property
    def _backend(self) -> Backend:
        if self._place.scheme == "file":
            from curation.storage.local_store import LocalFiles

            return LocalFiles(self._place.prefix)
        from curation.storage.object_store import Bucket

        return Bucket(self._place, self.options)

    def _listed(self, start: Listing) -> Iterator[ObjectInfo]:
        confirm = self._place.scheme not in ("file", "memory")
        found = iter(Resumable(self.url, start, self._budget(), confirm=confirm))
        while True:
            with waiting:
                info = next(found, None)
            if info is None:
                return
            yield info._replace(key=info.key[len(self._prefix) :])

    def _folder(self, prefix: str) -> str:
        folder = prefix.strip("/")
        return self._full(folder) if folder else self._prefix.rstrip("/")

    def _full(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _budget(self) -> RetryBudget:
        return RetryBudget(self.options.patience, self.stats, self._backend)

    def _retry(self, call: Callable[[], T], budget: RetryBudget | None = None) -> T:
        budget = budget or self._budget()
        with waiting:
            while True:
                try:
                    return call()
                except StoreError as error:
                    budget.retry(error)

    def _read(self, key: str, offset: int, length: int | None, etag: str | None) -> tuple[bytes, str]:
        """Return (bytes, pin). A pin is the etag, or the signature of a local file that was read without one."""
        with waiting:
            full, location = self._full(key), self.location(key)
            data, pin = read_range(self._backend, full, offset, length, etag, location, self._budget())
        self.stats.add(gets=1, bytes_in=len(data))
        return data, pin
