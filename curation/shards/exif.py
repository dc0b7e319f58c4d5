"""EXIF orientation of JPEG, PNG and WebP, and a bounded reader of a TIFF's first directory.

Damaged EXIF does not make an image damaged: its orientation then counts as 1, as in other readers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from curation.core.errors import ImageError

ORIENTATION = 0x0112
MAX_ENTRIES = 1024  # entries of a TIFF's directory; ordinary ones have about 20
MAX_STEPS = 100_000  # chunks or segments searched for EXIF: 20 ms

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}  # bytes of a TIFF's types
_SHORT, _LONG = 3, 4


class TiffEntry(NamedTuple):
    """One tag of a TIFF's directory: `length` values of type `kind` at byte `offset`."""

    kind: int
    length: int
    offset: int


class Directory(NamedTuple):
    """The first directory of a TIFF."""

    data: bytes
    order: str  # byte order as in `struct`: "<" or ">"
    start: int  # byte offset of the directory: the number of entries, then 12 bytes each
    entries: dict[int, TiffEntry]

    def numbers(self, tag: int) -> list[int]:
        """Return the values of an integer tag; [] if it is absent. Raises `ImageError` for another type."""
        entry = self.entries.get(tag)
        if entry is None:
            return []
        if entry.kind not in (_SHORT, _LONG):
            raise ImageError("image_corrupt", f"TIFF tag {tag} is of type {entry.kind}, not a whole number")
        letter = "H" if entry.kind == _SHORT else "I"
        return list(struct.unpack_from(f"{self.order}{entry.length}{letter}", self.data, entry.offset))

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of an integer tag, or `default` if the tag is absent."""
        return next(iter(self.numbers(tag)), default)


def directory(data: bytes) -> Directory:
    """Read the first directory of a TIFF. Raises `ImageError` for one that refers to more bytes than the file has."""
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[data[:4]]
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        rows = [struct.unpack_from(f"{order}HHI4s", data, at + 2 + 12 * n) for n in range(min(count, MAX_ENTRIES + 1))]
    except KeyError:
        raise ImageError("image_corrupt", "no TIFF header") from None
    except struct.error:
        raise ImageError("image_truncated", f"the TIFF's directory lies beyond its {len(data)} bytes") from None
    if count > MAX_ENTRIES:
        raise ImageError("image_unsupported", f"a TIFF directory of {count} entries, more than {MAX_ENTRIES}")
    entries, total = dict[int, TiffEntry](), 0
    for n, (tag, kind, values, inline) in enumerate(rows):
        size = _SIZES.get(kind, 1) * values
        offset = at + 10 + 12 * n if size <= 4 else struct.unpack(f"{order}I", inline)[0]
        if offset + size > len(data):
            raise ImageError("image_truncated", f"a TIFF tag ends at {offset + size} of {len(data)}")
        total += size
        if tag in entries:  # decoders disagree about which of the two counts
            raise ImageError("image_corrupt", f"the TIFF's tag {tag} stands twice")
        entries[tag] = TiffEntry(kind, values, offset)
    if total > len(data):
        raise ImageError("image_corrupt", f"the TIFF's tags hold {total} bytes, more than the file")
    return Directory(data, order, at, entries)


def orientation(data: bytes, format: str) -> int:
    """Return the EXIF orientation of a JPEG, PNG or WebP, 1 to 8; 1 if there is none or it is damaged."""
    for exif in _EXIF[format](data) if format in _EXIF else ():
        try:
            found = directory(exif.removeprefix(b"Exif\0\0")).number(ORIENTATION, 1)
        except (ImageError, struct.error):
            return 1
        return found if 1 <= found <= 8 else 1
    return 1


def _of_jpeg(data: bytes) -> Iterator[bytes]:
    """Yield the EXIF data of the APP1 segments before the first scan."""
    at = 2
    for _ in range(MAX_STEPS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA or length < 2:
            return
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            yield data[at + 4 : at + 2 + length]
        at += 2 + length


def _of_chunks(data: bytes, *, png: bool) -> Iterator[bytes]:
    """Yield the EXIF chunks of a PNG (each chunk ends in a CRC) or a WebP (RIFF, padded to even lengths)."""
    at, wanted, crc = (8, b"eXIf", 4) if png else (12, b"EXIF", 0)
    for _ in range(MAX_STEPS):
        if at + 8 + crc > len(data):
            return
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        length, kind = (int.from_bytes(first, "big"), second) if png else (int.from_bytes(second, "little"), first)
        if kind == wanted:
            yield data[at + 8 : at + 8 + length]
        at += 8 + length + (crc if png else length % 2)


_EXIF: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "jpeg": _of_jpeg,
    "png": partial(_of_chunks, png=True),
    "webp": partial(_of_chunks, png=False),
}
