"""The local-disk backend: our own because obstore's local store never fsyncs and its etags don't survive a copy.

obstore builds etags from inode and mtime; ours are the md5 of the content (see `etags`). Bytes go to a temporary file
beside the target, are fsynced, and appear under the final name in one step: `link` for create (the kernel refuses an
existing name), `rename` for put. A `kill -9` leaves at most a temporary file, which listings don't show. Cost: two
fsyncs an object, 1-10 ms on a disk. Used through `curation.storage.store`.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from curation.core.errors import BucketError, ChangedError, NotFoundError, StoreError
from curation.core.parallel import Workers
from curation.storage.etags import Signature, measure
from curation.storage.local_files import (
    TEMPORARY,
    entries,
    explain_os_error,
    link,
    make_directory,
    read_pieces,
    sync_directory,
    utf8_name,
    write_all,
)
from curation.storage.urls import ObjectInfo

_ATTEMPTS = 5  # reads of a file that changes while it is read
_WINDOW = 64  # files hashed ahead of the consumer of a listing
_HASHERS = min(4, os.cpu_count() or 1)  # md5 releases the GIL; four threads saturate most disks
_STATE = "stat:"  # prefix of a pin that is a file's signature, for readers that have no etag


class LocalFiles:
    """The backend of a directory: its objects are the regular files below `root`. Links are followed.

    `Store` has checked the keys before it calls this class.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.where = root

    def check(self) -> None:
        """Raise `BucketError` if the directory does not exist."""
        if not Path(self.root).is_dir():
            raise BucketError(f"directory {self.root} does not exist", fix="check the path")

    def renew_credentials(self) -> bool:
        """Return False: a directory has no credentials."""
        return False  # file permissions don't expire

    def list(self, prefix: str, etags: bool, after: str) -> Iterator[ObjectInfo]:
        """List the files below `prefix` in the order of their keys, starting after the key `after`."""
        self.check()
        found = self._walk(prefix + "/" if prefix else "", (), after=after)
        with Workers(_HASHERS) as pool:
            while window := list(islice(found, _WINDOW)):
                if etags:
                    yield from (info for info in pool.map(self._try_head, window) if info)
                else:
                    yield from (info for info in map(self._try_stat, window) if info)

    def unfinished(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """List the temporary files that killed writers left behind, which `list` omits."""
        for key in self._walk(prefix + "/" if prefix else "", (), temporary=True, after=after):
            if info := self._try_stat(key):
                yield info

    def head(self, key: str) -> ObjectInfo:
        """Return size, etag and time of an object. Raises `NotFoundError`."""
        with self._opened(key) as (fd, _):
            signature, etag = measure(fd, self._path(key))
            return ObjectInfo(key, signature.size, etag, signature.mtime_ns / 1e9)

    def size(self, key: str) -> int:
        """Return the size of an object in bytes. Raises `NotFoundError`."""
        with self._opened(key) as (_, found):
            return found.st_size

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        with self._errors(key):
            try:
                return stat.S_ISREG(Path(self._path(key)).stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def open(
        self, key: str, offset: int, length: int | None, etag: str | None, piece: int
    ) -> tuple[ObjectInfo, Iterator[bytes]]:
        """Return the object, pinned to `etag` or to its present state, and its bytes.

        Raises `ChangedError` if the file has another etag or keeps changing.
        """
        with self._opened(key) as (fd, _):
            # The ctime of a new file changes once more when its temporary name is removed: read it again then.
            for _ in range(_ATTEMPTS):
                if etag and not etag.startswith(_STATE):
                    signature, current = measure(fd, self._path(key))
                else:
                    signature = Signature.of(os.fstat(fd))
                    current = _STATE + "-".join(map(str, signature))
                end = signature.size if length is None else min(signature.size, offset + length)
                pieces = list(read_pieces(fd, offset, end))
                if etag and current != etag:
                    break
                if Signature.of(os.fstat(fd)) == signature:
                    return ObjectInfo(key, signature.size, current, signature.mtime_ns / 1e9), iter(pieces)
            raise ChangedError(f"{self._path(key)} has changed since it was planned", fix="plan again: curate run")

    def create(self, key: str, data: bytes) -> bool:
        """Put an object only if the key is free; return whether it was."""
        final = Path(self._path(key))
        if final.is_file():  # only saves the temporary file; `link` decides
            return False
        if final.is_dir():
            raise StoreError(f"{final} is a directory", fix="choose another output URL")
        try:
            self._write(key, lambda file: write_all(file, data), link)
        except FileExistsError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        """Put or replace an object atomically."""
        self._write(key, lambda file: write_all(file, data), os.replace)

    def put_file(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        """Put a file; `progress` is called with the bytes sent so far."""

        def copy(file: BinaryIO) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)

        self._write(key, copy, os.replace)

    @contextmanager
    def spool(self, folder: str) -> Iterator[Path]:
        """Yield a path for a file beside its later name, so that it is put without another copy of its bytes."""
        directory = Path(self._path(folder))
        with self._errors(folder, writing=True):
            path, file = self._temporary(directory)
            file.close()
            try:
                yield Path(path)
            finally:
                Path(path).unlink(missing_ok=True)

    def put_spooled(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        """Put the file of a `spool` by renaming it."""
        final = self._path(key)
        with self._errors(key, writing=True):
            if path.exists():  # not so in a second attempt, after the rename
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.replace(final)
            sync_directory(Path(final).parent)

    def delete(self, key: str) -> None:
        """Delete an object if it exists."""
        path = Path(self._path(key))
        with self._errors(key):
            path.unlink(missing_ok=True)
            for parent in path.parents:  # object stores have no empty directories
                if len(str(parent)) <= len(self.root):
                    break
                with suppress(OSError):
                    parent.rmdir()
                    continue
                break

    # --- details ------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}"

    def _write(self, key: str, fill: Callable[[BinaryIO], None], publish: Callable[[str, str], None]) -> None:
        final = self._path(key)
        with self._errors(key, writing=True):
            temporary, file = self._temporary(Path(final).parent)
            try:
                with file:
                    fill(file)
                    file.flush()
                    os.fsync(file.fileno())
                publish(temporary, final)
                sync_directory(Path(final).parent)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)  # noqa: PTH108

    def _temporary(self, directory: Path) -> tuple[str, BinaryIO]:
        for _ in range(20):
            make_directory(directory)
            path = str(directory / f"{TEMPORARY}{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # a concurrent delete() removed the directory while it was empty
                return path, Path(path).open("xb")
        raise StoreError(f"{directory} is deleted again and again while it is written to")

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        with self._errors(key):
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would block
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise FileNotFoundError
                yield fd, found
            finally:
                os.close(fd)

    def _walk(
        self, prefix: str, above: tuple[tuple[int, int], ...], *, temporary: bool = False, after: str = ""
    ) -> Iterator[str]:
        """Yield the keys of all files (or of all temporary files) below `prefix` ("" or "a/b/"), in order.

        `above`: device and inode of the parent directories, because links may form loops. A directory is read as a
        whole (150 bytes an entry), so a failure inside it has yielded nothing and a listing can resume after any key.
        """
        directory = self._path(prefix) if prefix else self.root
        with self._errors(prefix):
            try:
                here = Path(directory).stat()
                if (here.st_dev, here.st_ino) in above:
                    return
                names = sorted(entries(directory, temporary))
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in names:
            if name.endswith("/"):
                inside = (*above, (here.st_dev, here.st_ino))
                if prefix + name > after or after.startswith(prefix + name):
                    yield from self._walk(prefix + name, inside, temporary=temporary, after=after)
            elif prefix + name > after:
                yield prefix + utf8_name(directory, name)

    def _try_head(self, key: str) -> ObjectInfo | None:
        try:
            return self.head(key)
        except NotFoundError:
            return None  # the file was deleted after the directory was read

    def _try_stat(self, key: str) -> ObjectInfo | None:
        try:
            found = Path(self._path(key)).stat()
        except FileNotFoundError:
            return None
        return ObjectInfo(key, found.st_size, "", found.st_mtime)

    @contextmanager
    def _errors(self, key: str, writing: bool = False) -> Iterator[None]:
        path = self._path(key)
        try:
            yield
        except FileExistsError:
            raise  # `create` turns it into False
        except (NotADirectoryError, IsADirectoryError):
            if writing:
                text = f"{path} cannot be written: it is a directory, or one of its parents is a file"
                raise StoreError(text, fix="choose another output URL") from None
            raise NotFoundError(f"{path} does not exist") from None
        except FileNotFoundError:
            raise NotFoundError(f"{path} does not exist") from None
        except OSError as error:
            raise explain_os_error(error, path) from None
