"""A copy of one shard on local disk, for reads in another order than its own. Offsets are those of the shard.

Memory: only the bytes requested. The file has no name and disappears with the process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

from curation.core.errors import UserError


class Spool:
    """A temporary file: one writer appends blocks, any number of readers read ranges."""

    def __init__(self, blocks: Iterable[bytes] = ()) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="tutelage-")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise _no_space(error) from None
        self.size = 0
        for block in blocks:
            self.append(block)

    def append(self, block: bytes) -> None:
        """Append the next bytes of the shard. Raises `UserError` when the disk is full."""
        try:
            self._file.write(block)
        except OSError as error:
            raise _no_space(error) from None
        self.size += len(block)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`, all of which must have been appended."""
        self._file.flush()
        return os.pread(self._file.fileno(), length, offset)

    def blocks(self, offset: int, stop: int, block: int = 1 << 20) -> Iterator[bytes]:
        """Yield the bytes of a range in blocks of `block` bytes."""
        for at in range(offset, stop, block):
            yield self.read(at, min(block, stop - at))

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _no_space(error: OSError) -> UserError:
    try:
        where = tempfile.gettempdir()
    except OSError:  # there is no usable one
        where = os.environ.get("TMPDIR", "/tmp")
    text = f"{where} has no space for a shard whose members are not sorted: {error.strerror}"
    return UserError(text, fix="sort the shard (tar --sort=name), or set TMPDIR to a larger disk")


class Tee:
    """An iterator over blocks that keeps them until the reader knows whether it needs them again."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self._kept: list[bytes] = []
        self._keeping = True
        self._spool: Spool | None = None

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            if self._keeping:
                self._kept.append(block)
            elif self._spool is not None:
                self._spool.append(block)
            yield block

    def forget(self) -> None:
        """Drop the blocks kept so far and keep no further ones."""
        self._keeping, self._kept = False, []

    def spool(self) -> Spool:
        """Write all blocks, those kept and those to come, to a file, and return it."""
        self._spool = Spool(self._kept)
        self.forget()
        return self._spool
