"""A directory as an object store: atomic, durable, create-only where asked. Used through `curation.storage.store`.

obstore's local store writes the final name's content without fsync, and its etag is inode and mtime, which no copy
survives; so this is our own. Bytes go to a temporary file beside the target, are fsynced, and then appear under the
final name in one step: `link` for create (the kernel refuses an existing name), `rename` for put. A `kill -9` leaves at
most a temporary file, which listings do not show. Cost: two fsyncs an object, 1-10 ms on a disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from curation.core.errors import AccessError, BucketError, ChangedError, NotFoundError, StoreError, UnsafeStoreError
from curation.core.parallel import Workers
from curation.storage.errors import TransientError
from curation.storage.etags import Signature, measure
from curation.storage.urls import ObjectInfo

_TEMPORARY = ".tutelage-put-"
_LOOKS = 5  # at a file that changes while it is read
_WINDOW = 64  # files hashed ahead of the consumer of a listing
_HASHERS = min(4, os.cpu_count() or 1)  # md5 releases the GIL; four saturate most disks
_STATE = "stat:"  # prefix of a pin that is a signature rather than an etag, for readers that have no etag


class LocalFiles:
    """Objects are the regular files below `root`; links are followed. Keys were checked by the caller."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.where = root

    def check(self) -> None:
        if not Path(self.root).is_dir():
            raise BucketError(f"directory {self.root} does not exist", fix="check the path")

    def renew_credentials(self) -> bool:
        return False  # what a file's mode forbids stays forbidden

    def list(self, prefix: str, etags: bool, after: str) -> Iterator[ObjectInfo]:
        """In the order of the keys, beginning behind `after`."""
        self.check()
        found = self._walk(prefix + "/" if prefix else "", (), after=after)
        with Workers(_HASHERS) as pool:
            while window := list(islice(found, _WINDOW)):
                if etags:
                    yield from (info for info in pool.map(self._try_head, window) if info)
                else:
                    yield from (info for info in map(self._try_stat, window) if info)

    def unfinished(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """What writers that were killed left: they have temporary names, which `list` leaves out."""
        for key in self._walk(prefix + "/" if prefix else "", (), temporary=True, after=after):
            if info := self._try_stat(key):
                yield info

    def head(self, key: str) -> ObjectInfo:
        with self._opened(key) as (fd, _):
            signature, etag = measure(fd, self._path(key))
            return ObjectInfo(key, signature.size, etag, signature.mtime_ns / 1e9)

    def size(self, key: str) -> int:
        with self._opened(key) as (_, found):
            return found.st_size

    def exists(self, key: str) -> bool:
        with self._errors(key):
            try:
                return stat.S_ISREG(Path(self._path(key)).stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def open(
        self, key: str, offset: int, length: int | None, etag: str | None, piece: int
    ) -> tuple[ObjectInfo, Iterator[bytes]]:
        """The object pinned (to `etag`, or else to its state now), and its bytes. Raises `ChangedError`."""
        with self._opened(key) as (fd, _):
            # A file that was just created changes its ctime once more, when its temporary name goes: look again then.
            for _ in range(_LOOKS):
                if etag and not etag.startswith(_STATE):
                    signature, current = measure(fd, self._path(key))
                else:
                    signature = Signature.of(os.fstat(fd))
                    current = _STATE + "-".join(map(str, signature))
                end = signature.size if length is None else min(signature.size, offset + length)
                pieces = list(_pread(fd, offset, end))
                if etag and current != etag:
                    break
                if Signature.of(os.fstat(fd)) == signature:
                    return ObjectInfo(key, signature.size, current, signature.mtime_ns / 1e9), iter(pieces)
            raise ChangedError(f"{self._path(key)} is not the file it was", fix="plan again: curate run")

    def create(self, key: str, data: bytes) -> bool:
        final = Path(self._path(key))
        if final.is_file():  # saves the temporary file; `link` is what decides
            return False
        if final.is_dir():
            raise StoreError(f"{final} is a directory", fix="choose another place to write to")
        try:
            self._write(key, lambda file: _write_all(file, data), _link)
        except FileExistsError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        self._write(key, lambda file: _write_all(file, data), os.replace)

    def put_file(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        def copy(file: BinaryIO) -> None:
            with path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)

        self._write(key, copy, os.replace)

    def delete(self, key: str) -> None:
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

    # --- below: how ---------------------------------------------------------------------------------------------

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
                _sync(Path(final).parent)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)  # noqa: PTH108

    def _temporary(self, directory: Path) -> tuple[str, BinaryIO]:
        for _ in range(20):
            _make(directory)
            path = str(directory / f"{_TEMPORARY}{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # a concurrent delete() took the directory while it was empty
                return path, Path(path).open("xb")
        raise StoreError(f"{directory} keeps vanishing")

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
        """Keys of all files below `prefix` ("" or "a/b/"), or of the temporary ones there, in their order.

        `above`: where we are, since links may form loops. A directory is read as a whole (150 bytes an entry): one that
        fails in the middle has given nothing out, and a listing can go on behind any key.
        """
        directory = self._path(prefix) if prefix else self.root
        with self._errors(prefix):
            try:
                here = Path(directory).stat()
                if (here.st_dev, here.st_ino) in above:
                    return
                names = sorted(_entries(directory, temporary))
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in names:
            if name.endswith("/"):
                inside = (*above, (here.st_dev, here.st_ino))
                if prefix + name > after or after.startswith(prefix + name):
                    yield from self._walk(prefix + name, inside, temporary=temporary, after=after)
            elif prefix + name > after:
                yield prefix + _utf8(directory, name)

    def _try_head(self, key: str) -> ObjectInfo | None:
        try:
            return self.head(key)
        except NotFoundError:
            return None  # deleted since the directory was read

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
            raise  # create's answer
        except (NotADirectoryError, IsADirectoryError):
            if writing:
                text = f"{path} cannot be written: it is a directory, or one of its parents is a file"
                raise StoreError(text, fix="choose another place to write to") from None
            raise NotFoundError(f"{path} does not exist") from None
        except FileNotFoundError:
            raise NotFoundError(f"{path} does not exist") from None
        except OSError as error:
            raise _explain(error, path) from None


def _entries(directory: str, temporary: bool) -> Iterator[str]:
    """Names of the files of a directory (or of the temporary ones), and of its directories with a slash behind them,
    so that sorted names are in the order of keys."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                yield f"{entry.name}/"
            elif entry.name.startswith(_TEMPORARY) != temporary:
                continue
            elif entry.is_file():
                yield entry.name
            elif entry.is_symlink():
                raise StoreError(f"{entry.path} is a broken link", fix="remove it")


# What file systems over a network, and those that programs offer, answer while their server is away.
_AWAY = {errno.EAGAIN, errno.EHOSTDOWN, errno.EIO, errno.ENOTCONN, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT}


def _explain(error: OSError, path: str) -> StoreError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(f"no permission for {path}", fix="check its owner and mode")
    if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
        fix = "write to a local disk or to an object store"
        return UnsafeStoreError(
            f"the file system of {path} has no hard links, so nothing can be committed to it", fix=fix
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"no space left for {path}", fix="free some space, then run the same command again")
    text = f"{path}: {error.strerror or type(error).__name__}"
    if error.errno in _AWAY:
        return TransientError(text, fix="check the disk, or the server that the directory is mounted from")
    return StoreError(text)


def _pread(fd: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        piece = os.pread(fd, min(end - start, 1 << 30), start)
        if not piece:
            return
        start += len(piece)
        yield piece


def _utf8(directory: str, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{directory}: file name {os.fsencode(name)!r} is not UTF-8", fix="rename it") from None
    return name


def _link(temporary: str, final: str) -> None:
    try:
        os.link(temporary, final)
    except PermissionError as error:  # what FAT answers; the directory itself was just written to
        raise OSError(errno.EOPNOTSUPP, error.strerror) from None


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _make(directory: Path) -> None:
    """`mkdir -p`, durable: a new directory's name is fsynced in its parent."""
    if directory.is_dir():
        return
    _make(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir()
    _sync(directory.parent)


def _sync(directory: Path) -> None:
    with suppress(FileNotFoundError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
