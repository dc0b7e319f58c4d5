"""S3, GCS, Azure and memory through obstore: requests and answers. Used through `curation.store`.

obstore's own retries are off where ours count them, and on where one call is many requests (listing, multipart).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import AccessError, ChangedError, NotFoundError, StoreError
from curation.store_clients import clients, refuse_fork
from curation.store_errors import explain
from curation.store_url import ObjectInfo, Place, StoreOptions

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

MULTIPART = 64 << 20  # objects above this are uploaded in parts
SMALL = 8 << 20  # up to here a put is quick: it is not given a minute before it counts as failed
PART = 16 << 20  # times four at once: 64 MiB of memory


class Bucket:
    """One bucket. Keys are full keys, as the store knows them."""

    def __init__(self, place: Place, options: StoreOptions) -> None:
        self.name = place.bucket
        self.where = f"{place.scheme}://{place.bucket}"
        self._clients = clients(place, options)
        self._exists = False

    def check(self) -> None:
        """Raises `BucketError` when there is no such bucket. A listing is the one request that tells on every store."""
        if self._exists:
            return
        import obstore

        with self._errors(""):
            obstore.list_with_delimiter(self._clients.quick, ".probe")
        self._exists = True

    def list(self, prefix: str, etags: bool) -> Iterator[ObjectInfo]:
        import obstore

        stream = iter(obstore.list(self._clients.listing, prefix or None, chunk_size=1000))
        while True:
            with self._errors(prefix):
                page = next(stream, None)
            if page is None:
                return
            for item in page:
                yield _info(item)

    def head(self, key: str) -> ObjectInfo:
        import obstore

        try:
            with self._errors(key):
                return _info(obstore.head(self._clients.quick, key))
        except NotFoundError:
            self._check_gently()  # the answer to HEAD has no body that says whether the object or the bucket is missing
            raise

    def unfinished(self, prefix: str) -> Iterator[ObjectInfo]:
        """Nothing: parts of uploads that were never completed are no objects; a bucket's lifecycle rule ends them."""
        return iter(())

    def size(self, key: str) -> int:
        return self.head(key).size

    def exists(self, key: str) -> bool:
        try:
            self.head(key)
        except NotFoundError:
            return False
        return True

    def open(
        self, key: str, offset: int, length: int | None, etag: str | None, piece: int
    ) -> tuple[ObjectInfo, Iterator[bytes]]:
        """The object, pinned, and its bytes in pieces of `piece`, which may end early or raise `TransientError`."""
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
            info = _info(result.meta)
        if etag and info.etag != etag:  # a store that ignores If-Match is found out here
            raise ChangedError(f"{self.where}/{key} is not the object it was", fix="plan again: curate run")
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
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._errors(key):
                obstore.put(self._clients.quick, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        self._put(key, data, len(data))

    def put_file(self, key: str, path: Path) -> None:
        self._put(key, path, path.stat().st_size)

    def _put(self, key: str, data: bytes | Path, size: int) -> None:
        import obstore

        client = self._clients.quick if size <= SMALL else self._clients.upload
        part = max(PART, -(-size // 9_000))  # S3 allows 10,000 parts
        with self._errors(key):
            obstore.put(client, key, data, use_multipart=size > MULTIPART, chunk_size=part, max_concurrency=4)

    def delete(self, key: str) -> None:
        import obstore

        try:
            with self._errors(key):
                obstore.delete(self._clients.quick, key)
        except NotFoundError:
            return

    @property
    def client(self) -> ObjectStore:
        """For consumers: retries by itself."""
        return self._clients.listing

    def _check_gently(self) -> None:
        try:
            self.check()
        except AccessError:
            self._exists = (
                True  # allowed to read but not to list: the bucket is there, and there is no need to ask again
            )

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        refuse_fork()
        try:
            yield
        except (AlreadyExistsError, StoreError):
            raise
        except (BaseError, FileNotFoundError, ValueError, OSError) as error:
            raise explain(error, f"{self.where}/{key}".rstrip("/"), self.name, self._clients.endpoint) from None


def _info(meta: Any) -> ObjectInfo:
    etag = meta["e_tag"] or meta["version"] or ""
    if etag.startswith('"') and etag.endswith('"'):
        etag = etag[1:-1]
    return ObjectInfo(meta["path"], meta["size"], etag, meta["last_modified"].timestamp())


def _quoted(etag: str) -> str:
    return etag if etag.startswith("W/") else f'"{etag}"'
