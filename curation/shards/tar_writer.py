"""A deterministic tar writer: our own because `tarfile` writes times, owners and padding that differ between runs."""

from __future__ import annotations

from typing import BinaryIO

from curation.shards.tar import END_BLOCKS
from curation.shards.tar_groups import decode_name

MAX_NAME = 100  # bytes of a member's name
MAX_LENGTH = 1 << 33  # bytes of a member: 8 GiB is the first size that 11 octal digits can't hold


class TarWriter:
    """Writes a ustar archive whose bytes depend only on the names and data added.

    Mode 0644, mtime 0, owner 0, no user or group names, two zero blocks at the end and no further padding. Names are
    ASCII of at most 100 bytes and safe by the reader's rules; others raise `ValueError`. Cost: ~6 us a member.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self._closed = False

    def add(self, name: str, data: bytes) -> int:
        """Append a member and return the byte offset of its data. Raises `ValueError`."""
        if self._closed:
            raise ValueError("the archive is closed")
        self._file.write(header(checked_name(name), len(data)))
        self._file.write(data)
        self._file.write(bytes(-len(data) % 512))
        offset = self._offset + 512
        self._offset = offset + (len(data) + 511 & -512)
        return offset

    def close(self) -> int:
        """Write the end blocks and return the size of the archive in bytes. The caller closes the file."""
        if not self._closed:
            self._file.write(bytes(END_BLOCKS))
            self._offset += END_BLOCKS
            self._closed = True
        return self._offset


def checked_name(name: str) -> bytes:
    """Return a member's name in ASCII. Raises `ValueError` for a name that `TarWriter` refuses."""
    encoded = name.encode()
    if not name.isascii() or len(encoded) > MAX_NAME or name.endswith("/") or not decode_name(encoded)[1]:
        raise ValueError(f"not a name for a shard's member: {name!r} (ASCII, relative, at most {MAX_NAME} bytes)")
    return encoded


def header(name: bytes, length: int) -> bytes:
    """Return the header block of a member with `length` bytes of data. Raises `ValueError` above 8 GiB."""
    if length >= MAX_LENGTH:
        raise ValueError(f"{name.decode()}: {length} bytes do not fit a ustar header (8 GiB)")
    before = name.ljust(100, b"\0") + b"0000644\x000000000\x000000000\0%011o\x0000000000000\0" % length
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(before) + sum(after) + 8 * 32  # the checksum's own field counts as spaces
    return b"%b%06o\0 %b" % (before, checksum, after)
