"""Files pinned by their sha256: fetched from any store, verified before anything reads them, cached on local disk.

Cost: one download a machine, and one pass of sha256 over the cached copy at each use (0.5-1 GB/s with SHA extensions).
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, TypeVar

from curation.core.cache import cache_folder
from curation.core.digest import sha256_of
from curation.core.errors import PinnedFileError, StoreError, UserError
from curation.storage.tables import local_disk

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

E = TypeVar("E", bound=PinnedFileError)


@dataclass(frozen=True)
class Refusal:
    """A kind of file that is never read, known by the end of its name or by its first bytes.

    reason: follows the file in the error. fix: `{name}` is the name of the file, `{stem}` its name without the suffix.
    """

    suffixes: tuple[str, ...]
    starts: tuple[bytes, ...]
    reason: str
    fix: str

    def matches(self, url: str, start: bytes) -> bool:
        """Whether a file is of this kind. start: its first bytes, empty before it is read."""
        return url.lower().endswith(self.suffixes) or start.startswith(self.starts)

    def error(self, kind: type[E], origin: str) -> E:
        """Return the error for a file of this kind."""
        path = Path(origin)
        return kind(f"{origin} {self.reason}", fix=self.fix.format(name=path.name, stem=path.stem))


@dataclass(frozen=True)
class PinnedFile:
    """A file of any content, pinned by its sha256. Fingerprints contain the sha256 and not the URL.

    A subclass names the content: the folder and the suffix of the cached copy, the class of its errors, and the
    files that it refuses before a download.
    """

    folder: ClassVar[str] = "files"
    suffix: ClassVar[str] = ""
    error: ClassVar[type[PinnedFileError]] = PinnedFileError
    sha256_fix: ClassVar[str] = "`sha256sum` prints it"
    refusal: ClassVar[Refusal | None] = None

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            found = repr(self.sha256) if self.sha256 else "empty"
            text = f"sha256 of a file must be 64 lower-case hexadecimal digits; it is {found}"
            raise self.error(text, fix=f"{self.sha256_fix} (file: {self.url})")

    @property
    def cached(self) -> Path:
        """Local path of the cached copy, which may not exist."""
        return cache_folder() / self.folder / f"{self.sha256}{self.suffix}"

    def fetch(self, options: StoreOptions | None = None) -> Path:
        """Return the local path of a copy with this sha256, downloaded unless it is cached.

        Raises `error` for unwanted content, for another sha256 and for an unreadable URL; `UserError` when the cache
        can't be written.
        """
        self._check_refusal(b"")
        cached = self.cached
        if cached.exists() and sha256_of(cached) == self.sha256:
            return cached
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=cached.parent, suffix=".part")
        except OSError as error:
            fix = "set XDG_CACHE_HOME to a writable folder"
            raise UserError(f"the cache folder {cached.parent} can't be written: {error.strerror}", fix=fix) from None
        try:
            with local_disk(f"fetching {self.url}", cached.parent), os.fdopen(handle, "wb") as file:
                found = self._download(file, options)
                if found != self.sha256:  # a read may be damaged on the way; a second equal one is another file
                    file.seek(0)
                    file.truncate()
                    found = self._download(file, options)
            if found != self.sha256:
                fix = "put the file's own sha256 into the recipe if you trust it, or restore the file"
                raise self.error(f"{self.url} has sha256 {found}, expected {self.sha256}", fix=fix)
            Path(name).replace(cached)
        finally:
            Path(name).unlink(missing_ok=True)
        return cached

    def check(self, options: StoreOptions | None = None) -> None:
        """Fetch the file and raise `error` unless the URL still holds it, even if a copy was cached before.

        A file on this machine is hashed; for any other URL the size is compared, which costs one request.
        """
        from curation.storage.store import open_object

        store, key = open_object(self.url, options)
        if not store.exists(key):
            raise self.error(f"{self.url} does not exist", fix="check the URL")
        copy = self.fetch(options)
        here = store.location(key).removeprefix("file://")
        if store.size(key) != copy.stat().st_size or ("://" not in here and sha256_of(Path(here)) != self.sha256):
            fix = "the file was replaced: put its own sha256 into the recipe if you trust it"
            raise self.error(f"{self.url} has another sha256 than {self.sha256}", fix=fix)

    def _check_refusal(self, start: bytes) -> None:
        """Raise `error` for a refused file. start: its first bytes, empty before it is read."""
        if self.refusal is not None and self.refusal.matches(self.url, start):
            raise self.refusal.error(self.error, self.url)

    def _download(self, file: BinaryIO, options: StoreOptions | None) -> str:
        """Write the object's bytes to `file`; return their sha256."""
        from curation.storage.store import open_object

        digest = sha256()
        try:
            store, key = open_object(self.url, options)
            info = store.head(key)
            for block in store.blocks(key, info.size, info.etag):
                if file.tell() == 0:
                    self._check_refusal(block)  # before 10 GB are fetched, whatever the sha256 is
                digest.update(block)
                file.write(block)
        except StoreError as error:
            raise self.error(f"{self.url}: {error}", fix=error.fix) from error
        return digest.hexdigest()
