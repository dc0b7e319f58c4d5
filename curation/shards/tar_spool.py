"""Bytes of one shard on local disk, for what has to be read out of their order: positions as in the shard.

Memory: none but what is asked for. The file has no name and is gone with the process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

from curation.core.errors import UserError


class Spool:
    """A temporary file that blocks are appended to and ranges are read from, by any number of readers."""

    def __init__(self, blocks: Iterable[bytes] = ()) -> None:
        self._file = tempfile.TemporaryFile(prefix="tutelage-")  # noqa: SIM115 (closed by `close`)
        self.size = 0
        for block in blocks:
            self.append(block)

    def append(self, block: bytes) -> None:
        """Add the bytes that follow. Raises `UserError` when the disk is full."""
        try:
            self._file.write(block)
        except OSError as error:
            text = f"{tempfile.gettempdir()} has no room for a shard whose members are not sorted: {error.strerror}"
            raise UserError(text, fix="sort the shard (tar --sort=name), or set TMPDIR to a larger disk") from None
        self.size += len(block)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, which have been appended."""
        self._file.flush()
        return os.pread(self._file.fileno(), length, offset)

    def blocks(self, offset: int, stop: int, block: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of a range, piece by piece."""
        for at in range(offset, stop, block):
            yield self.read(at, min(block, stop - at))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Tee:
    """Blocks that pass by, remembered until it is known whether they are needed again."""

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
        """Nothing that came is needed again."""
        self._keeping, self._kept = False, []

    def spool(self) -> Spool:
        """Everything that came and that will come goes to a file."""
        self._spool = Spool(self._kept)
        self.forget()
        return self._spool
