"""Operations on local files: durable writes, ranged reads, directory entries, and errors in the user's words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from curation.core.errors import AccessError, StoreError, UnsafeStoreError
from curation.storage.errors import TransientError

TEMPORARY = ".tutelage-put-"  # prefix of the names of files that are being written


def entries(directory: str, temporary: bool) -> Iterator[str]:
    """Names of a directory's files (or temporary files), and of its directories with a trailing slash.

    With the slash, sorted names have the order of keys.
    """
    with os.scandir(directory) as found:
        for entry in found:
            if entry.is_dir():
                yield f"{entry.name}/"
            elif entry.name.startswith(TEMPORARY) != temporary:
                continue
            elif entry.is_file():
                yield entry.name
            elif entry.is_symlink():
                raise StoreError(f"{entry.path} is a broken link", fix="remove it")


# Errors of network and FUSE file systems while their server is unavailable.
_UNAVAILABLE = {
    *(errno.EAGAIN, errno.EHOSTDOWN, errno.EIO, errno.ENOTCONN, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT),
}


def explain_os_error(error: OSError, path: str) -> StoreError:
    """Translate an error of the file system at `path` into one of `curation.core.errors`."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(f"no permission for {path}", fix="check its owner and mode")
    if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
        text = f"the file system of {path} has no hard links, so nothing can be committed to it"
        return UnsafeStoreError(text, fix="write to a local disk or to an object store")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"no space left for {path}", fix="free some space, then run the same command again")
    text = f"{path}: {error.strerror or type(error).__name__}"
    if error.errno in _UNAVAILABLE:
        return TransientError(text, fix="check the disk, or the server that the directory is mounted from")
    return StoreError(text)


def read_pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end` of an open file, or to its end if that comes first."""
    while start < end:
        piece = os.pread(fd, min(end - start, 1 << 30), start)
        if not piece:
            return
        start += len(piece)
        yield piece


def utf8_name(directory: str, name: str) -> str:
    """Return the name of a file. Raises `StoreError` for a name that is not UTF-8, which no key can be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{directory}: file name {os.fsencode(name)!r} is not UTF-8", fix="rename it") from None
    return name


def link(temporary: str, final: str) -> None:
    """Give a file a second name. Raises `FileExistsError` for a name that is taken, `OSError` without hard links."""
    try:
        os.link(temporary, final)
    except PermissionError as error:  # FAT has no links; permissions are fine, since the temporary file was written
        raise OSError(errno.EOPNOTSUPP, error.strerror) from None


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write the bytes at once."""
    file.write(data)


def make_directory(directory: Path) -> None:
    """Create a directory and its parents durably: each new name is fsynced in its parent."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir()
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    with suppress(FileNotFoundError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
