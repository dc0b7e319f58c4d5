"""The backend of S3, GCS, Azure and memory, through obstore. Used through `curation.storage.store`.

Each call is one attempt, which `curation.storage.store` retries. obstore's own retries are enabled only where one call
makes many requests that nothing else could retry singly (multipart uploads, consumers' file systems).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from curation.core.errors import AccessError, ChangedError, NotFoundError, StoreError
from curation.core.parallel import NoAnswerError, call_with_timeout
from curation.storage.clients import Clients, clients, refuse_fork, renewed, replaced
from curation.storage.endpoints import recheck
from curation.storage.errors import TransientError, explain, foreign_answer
from curation.storage.urls import Location, ObjectInfo, StoreOptions

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

Progress = Callable[[int], None]

LISTED = 100  # keys that obstore buffers before it returns any, and loses if the next page fails
LOST = 60.0  # seconds after which a silent listing is abandoned: six times the timeout of a request
MULTIPART = 64 << 20  # larger objects are uploaded in parts, bytes
SMALL = 8 << 20  # puts up to this size have the short timeout, bytes
PART = 16 << 20  # bytes; four parts in flight take 64 MiB of memory


class Bucket:
    """The backend of one bucket. Keys are full keys, including the store's prefix."""

    def __init__(self, place: Location, options: StoreOptions) -> None:
        self.name = place.bucket
        self.where = f"{place.scheme}://{place.bucket}"
        self._place, self._options = place, options
        self._clients = clients(place, options)
        self._exists = False

    def check(self) -> None:
        """Raise `BucketError` if the bucket does not exist. Only a listing shows this on every store."""
        if self._exists:
            return
        import obstore

        with self._errors(""):
            obstore.list_with_delimiter(self._clients.quick, ".probe")
        self._exists = True

    def renew_credentials(self) -> bool:
        """Replace credentials that the store refused. Returns whether there are fresh ones to try."""
        found: Clients | None = renewed(self._place, self._options, self._clients)
        self._clients = found or self._clients
        return found is not None

    def list(self, prefix: str, etags: bool, after: str) -> Iterator[ObjectInfo]:
        """Yield the objects below `prefix` after the key `after`, in the store's order."""
        import obstore

        stream = iter(obstore.list(self._clients.quick, prefix or None, offset=after or None, chunk_size=LISTED))
        while True:
            with self._errors(prefix):
                page = self._page(stream)
            if page is None:
                return
            for item in page:
                yield _info(item)

    def _page(self, stream: Iterator[Any]) -> Any:
        """Return the next keys of a listing, or None at its end.

        Runs on a thread that can be abandoned: obstore 0.12 was seen to hang in a listing with no request in flight, so
        that none of its timeouts applied. Cost: 60 us for `LISTED` keys.
        """
        try:
            return call_with_timeout(lambda: next(stream, None), LOST)
        except NoAnswerError:
            self._clients = replaced(self._place, self._options, self._clients) or self._clients
            raise TransientError(f"a listing of {self.where} returned nothing for {LOST:.0f} s") from None

    def head(self, key: str) -> ObjectInfo:
        """Return size, etag and time of an object. Raises `NotFoundError`."""
        import obstore

        try:
            with self._errors(key):
                return self._info(obstore.head(self._clients.quick, key))
        except NotFoundError:
            self._check_bucket()  # an answer to HEAD has no body, so it doesn't tell a missing bucket from an object
            raise

    def unfinished(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """List nothing: parts of uncompleted uploads are not objects; the bucket's lifecycle rule removes them."""
        return iter(())

    def size(self, key: str) -> int:
        """Return the size of an object in bytes. Raises `NotFoundError`."""
        return self.head(key).size

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        try:
            self.head(key)
        except NotFoundError:
            return False
        return True

    def open(
        self, key: str, offset: int, length: int | None, etag: str | None, piece: int
    ) -> tuple[ObjectInfo, Iterator[bytes]]:
        """Return the object, pinned, and its bytes in pieces of about `piece` bytes.

        The pieces may end early or raise `TransientError`. Raises `ChangedError` if the object's etag is not `etag`.
        """
        import obstore

        options: GetOptions = {}
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset:
            options["range"] = {"offset": offset}
        if etag:
            options["if_match"] = _quoted(etag)
        with self._errors(key):
            result = obstore.get(self._clients.quick, key, options=options)
            info = self._info(result.meta)
        # A proxy's page doesn't have the object's etag. An error page that was stored as a shard does: it is content.
        if "text/html" in str(result.attributes.get("Content-Type")) and info.etag != (etag or self.head(key).etag):
            raise foreign_answer(f"{self.where}/{key}", self._clients.endpoint)
        if etag and info.etag != etag:  # detects a store that ignores If-Match, and a proxy's page
            if self.head(key).etag == etag:
                raise TransientError(f"{self._clients.endpoint} sent another object's bytes for {self.where}/{key}")
            raise ChangedError(f"{self.where}/{key} has changed since it was planned", fix="plan again: curate run")
        return info, self._pieces(result, key, piece)

    def _pieces(self, result: Any, key: str, size: int) -> Iterator[bytes]:
        stream = iter(result.stream(min_chunk_size=size))
        while True:
            with self._errors(key):
                piece = next(stream, None)
            if piece is None:
                return
            yield bytes(piece)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object only if the key is free; return whether it was."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._errors(key):
                obstore.put(self._clients.quick, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        """Put or replace an object atomically."""
        if len(data) > MULTIPART:
            self._put_parts(key, BytesIO(data), len(data), lambda position: None)
        else:
            self._put_whole(key, data, len(data))

    def put_file(self, key: str, path: Path, progress: Progress) -> None:
        """Put a file; `progress` is called with the bytes sent so far."""
        size = path.stat().st_size
        if size <= MULTIPART:
            self._put_whole(key, path, size)
            return
        with path.open("rb") as file:
            self._put_parts(key, file, size, progress)

    @contextmanager
    def spool(self, folder: str) -> Iterator[Path]:
        """Yield a path in the folder for temporary files. Raises `LocalDiskError` where that is full."""
        from curation.storage.tables import local_disk

        with local_disk("a file to be put"), tempfile.TemporaryDirectory(prefix="tutelage-") as at:
            yield Path(at) / "spool"

    def put_spooled(self, key: str, path: Path, progress: Progress) -> None:
        """Put the file of a `spool`, as any other."""
        self.put_file(key, path, progress)

    def _put_whole(self, key: str, data: bytes | Path, size: int) -> None:
        import obstore

        client = self._clients.quick if size <= SMALL else self._clients.slow
        with self._errors(key):
            obstore.put(client, key, data, use_multipart=False)

    def _put_parts(self, key: str, file: BinaryIO, size: int, progress: Progress) -> None:
        import obstore

        part = max(PART, -(-size // 9_000))  # S3 allows 10,000 parts
        with self._errors(key):
            pieces, client = _pieces(file, part, progress), self._clients.patient
            obstore.put(client, key, pieces, use_multipart=True, chunk_size=part, max_concurrency=4)

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        import obstore

        try:
            with self._errors(key):
                obstore.delete(self._clients.quick, key)
        except NotFoundError:
            return

    @property
    def client(self) -> ObjectStore:
        """The client for consumers, which retries each request itself for as long as `store.patience` lasts."""
        return self._clients.patient

    def _info(self, meta: Any) -> ObjectInfo:
        info = _info(meta)
        if not info.etag:  # every store returns an etag, and hardly any web page does
            raise foreign_answer(f"{self.where}/{info.key}", self._clients.endpoint)
        return info

    def _check_bucket(self) -> None:
        try:
            self.check()
        except AccessError:
            self._exists = True  # reading is allowed, listing is not: the bucket exists, so don't check again

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        refuse_fork()
        recheck(self._clients.endpoint)
        try:
            yield
        except (AlreadyExistsError, StoreError):
            raise
        except (BaseError, FileNotFoundError, ValueError, OSError) as error:
            raise explain(error, f"{self.where}/{key}".rstrip("/"), self.name, self._clients.endpoint) from None


def _pieces(file: BinaryIO, size: int, progress: Progress) -> Iterator[bytes]:
    """Yield a file in parts; call `progress` with the position before each next one, read after an earlier arrived."""
    while piece := file.read(size):
        yield piece
        progress(file.tell())


def _info(meta: Any) -> ObjectInfo:
    etag = meta["e_tag"] or meta["version"] or ""
    if etag.startswith('"') and etag.endswith('"'):
        etag = etag[1:-1]
    return ObjectInfo(meta["path"], meta["size"], etag, meta["last_modified"].timestamp())


def _quoted(etag: str) -> str:
    return etag if etag.startswith("W/") else f'"{etag}"'
