"""Object stores: open, list, read a range, put, create. One door for S3, GCS, Azure, memory and local directories.

What is promised here, for every store alike, is what the ledger stands on:
- `create` puts only where nothing is yet; of any number of racers one wins. A lost answer is settled by reading back.
- `get_range` returns exactly the bytes asked for, of exactly the object with that etag, or raises. Never fewer.
- a failure that may go away is retried within a budget (`StoreOptions.patience`), with jitter; a cut body is resumed.
- `probe` refuses a store that ignores create-only puts.

Cost: one request a call (10-50 ms from S3), no locks, nothing kept but clients. A Store is picklable: URL and options.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from curation.core.errors import (
    AccessError,
    BucketError,
    ChangedError,
    NotFoundError,
    StoreError,
    UnsafeStoreError,
    UserError,
)
from curation.core.parallel import Workers
from curation.storage.backend import Backend
from curation.storage.errors import LATER, SAFE_STORES, TransientError, is_web_page
from curation.storage.listing import Listing, Resumable
from curation.storage.retry import RetryBudget, Stats
from curation.storage.store_waits import waiting
from curation.storage.urls import Location, ObjectInfo, StoreOptions, check_key, parse

__all__ = ["ObjectInfo", "Stats", "Store", "StoreOptions", "open_object", "open_store"]

WHOLE = 16 << 20  # a body comes in one piece if it can: copying small ones together costs as much as the network
PIECE = 256 << 10  # after a cut, in small ones, so that what arrives before the next cut is kept

LOOKS, PAGES = 3, 6  # reads before an object counts as damaged; before a web page counts as the object (3 s)

T = TypeVar("T")


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """The store at a URL or path. Makes no request. Raises `UserError` for a scheme that is not allowed."""
    return Store(parse(url), options or StoreOptions())


def open_object(url: str, options: StoreOptions | None = None) -> tuple[Store, str]:
    """For the URL of one object: the store that holds it, and its key there."""
    place = parse(url)
    parent, _, key = place.prefix.rpartition("/")
    if not key:
        raise UserError(f"{place.url} does not name an object", fix="add its key to the URL")
    return Store(
        place._replace(prefix=parent or ("/" if place.scheme == "file" else "")), options or StoreOptions()
    ), key


class Store:
    """Objects below one URL. Keys are relative to it. Safe to use from many threads."""

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
        """The full URL of an object."""
        return f"{self.url}{'' if self.url.endswith('/') else '/'}{key}"

    # --- reading --------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, etags: bool = True) -> Iterator[ObjectInfo]:
        """All objects in the folder `prefix`, at any depth, each once, in no order, as a stream. Raises `BucketError`.

        Local files are hashed for their etag, once each; `etags=False` leaves the etag empty and hashes nothing.
        """
        folder = self._folder(prefix)
        yield from self._listed(lambda after: self._backend.list(folder, etags, after))

    def unfinished(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """What killed writers left in a folder of local disk: never listed, never read, only in the way."""
        folder = self._folder(prefix)
        yield from self._listed(lambda after: self._backend.unfinished(folder, after))

    def head(self, key: str) -> ObjectInfo:
        return self._retry(lambda: self._backend.head(self._full(key)))._replace(key=key)

    def size(self, key: str) -> int:
        """Bytes of an object; hashes nothing. Raises `NotFoundError`."""
        return self._retry(lambda: self._backend.size(self._full(key)))

    def exists(self, key: str) -> bool:
        return self._retry(lambda: self._backend.exists(self._full(key)))

    def get(self, key: str) -> bytes:
        """The whole object, in one consistent state. Raises `NotFoundError`."""
        for _ in range(3):
            with suppress(ChangedError):  # replaced between two attempts: begin again with the new object
                return self._read(key, 0, None, None)[0]
        raise ChangedError(f"{self.location(key)} is replaced again and again")

    def get_parsed(self, key: str, parse: Callable[[bytes], T]) -> T:
        """`parse` of the whole object. Where it raises, the object is read again: a bit that flipped on the way, or a
        proxy's page, is not damage. Raises what `parse` raises once two reads agree or `LOOKS` reads have failed."""
        budget, seen = RetryBudget(self.options.patience, self.stats), set[bytes]()
        while True:
            data = self.get(key)
            try:
                return parse(data)
            except Exception:
                seen.add(sha256(data).digest())
                odd = self._place.scheme != "file" and is_web_page(data)  # a page comes more than once: wait between
                last = budget.failures + 1 >= (PAGES if odd else min(LOOKS, len(seen) + 1))
                if last or not self.options.patience:
                    raise
                with waiting:
                    budget.spend(TransientError(f"{self.location(key)} came as what it can't be"))

    def get_range(self, key: str, offset: int, length: int, etag: str | None = None) -> bytes:
        """Exactly `length` bytes from `offset`, of the object with this etag if one is given (`ChangedError`)."""
        return self._read(key, offset, length, etag or None)[0]

    def blocks(
        self, key: str, size: int, etag: str | None = None, block: int = 8 << 20, offset: int = 0
    ) -> Iterator[bytes]:
        """Bytes `offset` to `size`, all of one state of the object. Reading begins at once, on a thread, and the next
        block is read while you use this one."""
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
        """Put `data` if there is nothing at `key`. True: these bytes are there now. False: others were there first."""
        full, budget, others = self._full(key), RetryBudget(self.options.patience, self.stats), set[bytes]()

        def attempt() -> bool:
            # S3 answers 409 to one of two simultaneous creates, even if the other then fails.
            failed = TransientError(f"{self.location(key)} is being created by another process")
            try:
                if self._backend.create(full, data):
                    return True
            except TransientError as error:
                # The answer is lost, but the put may have arrived, or may still. What is there now decides; if nothing
                # is, trying again is safe, because create never replaces.
                failed = error
            found = self._retry(lambda: self._holds(full, data, others), budget)
            if found is None:
                raise failed
            return found

        done = self._retry(attempt, budget)
        self.stats.add(creates=1, bytes_out=len(data) if done else 0)
        return done

    def put(self, key: str, data: bytes) -> None:
        """Put or replace. Atomic: readers see the old object or all of the new one."""
        self._retry(lambda: self._backend.put(self._full(key), data))
        self.stats.add(puts=1, bytes_out=len(data))

    def put_file(self, key: str, path: str | Path) -> None:
        """Put a file, streamed from disk; in parts when it is large (at most 64 MiB of memory)."""
        source = Path(path)
        size = source.stat().st_size
        budget, reached = RetryBudget(self.options.patience, self.stats), 0

        def progress(position: int) -> None:
            nonlocal reached
            if position > reached:  # what is sent again after a failure is none
                reached = position
                budget.renew()

        self._retry(lambda: self._backend.put_file(self._full(key), source, progress), budget)
        self.stats.add(puts=1, bytes_out=size)

    def delete(self, key: str) -> None:
        """Delete; nothing happens if there is no such object."""
        self._retry(lambda: self._backend.delete(self._full(key)))

    def probe(self) -> None:
        """Refuse (`UnsafeStoreError`) a store on which nothing can be committed. Two small puts, once per process."""
        if (self.url, self.options) in _PROBED:
            return
        if self._place.scheme != "file":
            self._retry(self._backend.check)  # some stores make a missing bucket on the first put
        key = f".probe/{secrets.token_hex(16)}"
        first, second = secrets.token_bytes(32), secrets.token_bytes(32)
        try:
            safe = self.create(key, first) and not self.create(key, second) and self.get(key) == first
            text = f"{self.url} ignores create-only puts, so nothing can be committed to it"
        except NotFoundError as error:  # of a folder that can't be made
            raise BucketError(
                f"{self.url} can't be written to", fix="check the path and who may write there"
            ) from error
        except UnsafeStoreError as error:
            safe, text = (
                False,
                f"{self.url} does not have create-only puts, so nothing can be committed to it ({error})",
            )
        finally:
            with suppress(StoreError):  # a probe left behind does no harm, and must not hide what went wrong
                self.delete(key)
        if not safe:
            raise UnsafeStoreError(text, fix=SAFE_STORES)
        _PROBED.add((self.url, self.options))

    # --- below: how -----------------------------------------------------------------------------------------------

    @cached_property
    def _backend(self) -> Backend:
        if self._place.scheme == "file":
            from curation.storage.local_store import LocalFiles

            return LocalFiles(self._place.prefix)
        from curation.storage.object_store import Bucket

        return Bucket(self._place, self.options)

    def _listed(self, start: Listing) -> Iterator[ObjectInfo]:
        budget = RetryBudget(self.options.patience, self.stats)
        confirm = self._place.scheme not in ("file", "memory")
        found = iter(Resumable(self.url, start, budget, partial(self._again, budget), confirm=confirm))
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

    def _holds(self, full: str, data: bytes, others: set[bytes]) -> bool | None:
        """Whether the object's bytes are `data`; None if there is no object. Other bytes, whose hashes are collected in
        `others`, are believed when they are read twice: a damaged answer is not another writer's object."""
        for _ in range(3):
            try:
                info, pieces = self._backend.open(full, 0, None, None, PIECE)
                found = b"".join(pieces)
            except NotFoundError:
                return None
            if found == data:
                return True
            if len(found) == info.size and not is_web_page(found):
                if (name := sha256(found).digest()) in others:
                    return False
                others.add(name)
        raise TransientError(f"{self.location(full[len(self._prefix) :])} can't be read back", fix=LATER)

    def _retry(self, call: Callable[[], T], budget: RetryBudget | None = None) -> T:
        budget = budget or RetryBudget(self.options.patience, self.stats)
        with waiting:
            while True:
                try:
                    return call()
                except StoreError as error:
                    self._again(budget, error)

    def _again(self, budget: RetryBudget, error: StoreError) -> None:
        """Return when another attempt is of use; raise otherwise."""
        if isinstance(error, TransientError):
            budget.spend(error)
        elif not (isinstance(error, AccessError) and self._backend.renew_credentials()):
            raise error

    def _read(self, key: str, offset: int, length: int | None, etag: str | None) -> tuple[bytes, str]:
        """(bytes, pin): a pin is an etag, or says as much for a local file whose etag nobody asked for."""
        with waiting:
            return self._read_on(key, offset, length, etag)

    def _read_on(self, key: str, offset: int, length: int | None, etag: str | None) -> tuple[bytes, str]:
        full = self._full(key)
        pieces: list[bytes] = []
        have, pin, piece = 0, etag, WHOLE
        budget = RetryBudget(self.options.patience, self.stats)
        while length is None or have < length:
            good = len(pieces), have
            try:
                rest = None if length is None else length - have
                info, stream = self._backend.open(full, offset + have, rest, pin, piece)
                pin = info.etag or pin
                length = info.size - offset if length is None else length
                if offset + length > info.size:
                    raise StoreError(f"{self.location(key)} ends at byte {info.size}, before {offset + length}")
                for part in stream:
                    if have + len(part) > length:
                        have = good[1]
                        del pieces[good[0] :]
                        raise TransientError(f"{self.location(key)} came with more bytes than were asked for")
                    pieces.append(part)
                    have += len(part)
                    budget.renew()
                if have < length:
                    raise TransientError(f"{self.location(key)} was cut off at byte {offset + have}")
            except StoreError as error:
                self._again(budget, error)
                piece = PIECE
        self.stats.add(gets=1, bytes_in=have)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), pin or ""


_PROBED: set[tuple[str, StoreOptions]] = set()
