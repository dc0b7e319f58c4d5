"""AVIF checks before libavif: the sizes that boxes and AV1 headers declare, and the rotation.

Our own because libavif decodes frames of up to 268 million pixels whatever the container declares: the sequence header
of every coded item and the size of every grid are therefore read here. Animated AVIF is refused: its frames are in
tracks, which this module does not read.
Source: ISO/IEC 14496-12 and 23008-12 for boxes, AV1 bitstream specification 5.5 for the sequence header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from curation.core.errors import ImageError

MAX_ITEMS = 4096  # coded tiles, alpha, EXIF; ordinary files have 1 to 4. Also limits extents, properties and AV1 units

_TURNS = {(0, 0): 4, (0, 1): 2, (1, -1): 8, (1, 0): 5, (1, 1): 7, (2, -1): 3, (2, 0): 2, (2, 1): 4, (3, -1): 6,
          (3, 0): 7, (3, 1): 5}  # fmt: skip  # EXIF orientation of (quarter turns anticlockwise, mirror axis or -1)
_SEQUENCE_HEADER = 1


class Avif(NamedTuple):
    """Coded dimensions in pixels, the EXIF orientation equivalent to rotation and mirroring, and bits a channel."""

    width: int
    height: int
    orientation: int
    depth: int


@dataclass
class _Meta:
    """The items of a file: their types, properties and extents."""

    primary: int = 0
    types: dict[int, bytes] = field(default_factory=dict)
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)  # kind, start, stop
    of_item: dict[int, list[int]] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


def avif(data: bytes, max_pixels: int) -> Avif:
    """Check every size that the file declares, and return the header.

    Raises `ImageError` for a size above `max_pixels` and for damaged boxes; `struct.error` or `IndexError` for a file
    that ends inside a header.
    """
    top = {kind: (start, stop) for kind, start, stop in _boxes(data, 0, len(data))}
    if b"moov" in top:
        raise ImageError("image_unsupported", "an animated AVIF")
    if b"meta" not in top:
        raise ImageError("image_corrupt", "an AVIF without a meta box")
    meta = _meta(data, *top[b"meta"])
    width = height = 0
    turn, axis = 0, -1
    for index in meta.of_item.get(meta.primary, []):
        if not 1 <= index <= len(meta.properties):
            continue
        kind, start, _ = meta.properties[index - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">4xII", data, start)
        elif kind == b"irot":
            turn = data[start] & 3
        elif kind == b"imir":
            axis = data[start] & 1
    depth = max((_depth(data[start + 2]) for kind, start, _ in meta.properties if kind == b"av1C"), default=8)
    for item, kind in meta.types.items():
        for across, down in _sizes(data, meta, item, kind):
            if across * down > max_pixels:
                raise ImageError("image_too_many_pixels", f"AV1 of {across} x {down} pixels, more than {max_pixels}")
    return Avif(width, height, _TURNS.get((turn, axis), 1), depth)


def _depth(flags: int) -> int:
    """Bits a channel, from the third byte of a codec configuration."""
    return 12 if flags & 0x20 else 10 if flags & 0x40 else 8


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of the content, stop) of the boxes in a range."""
    while at < stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = stop if size == 0 else at + size
        if end > stop:
            raise ImageError("image_truncated", f"an AVIF box ends at {end} of {stop}")
        if end < start:
            raise ImageError("image_corrupt", f"an AVIF box of {size} bytes at {at}")
        yield kind, start, end
        at = end


def _meta(data: bytes, start: int, stop: int) -> _Meta:
    found = _Meta()
    inside = (0, 0)
    for kind, at, end in _boxes(data, start + 4, stop):
        version = data[at]
        if kind == b"pitm":
            (found.primary,) = struct.unpack_from(">I" if version else ">H", data, at + 4)
        elif kind == b"iinf":
            for _, entry, _ in _boxes(data, at + (8 if version else 6), end):
                wide = data[entry] > 2
                item, name = struct.unpack_from(">I2x4s" if wide else ">H2x4s", data, entry + 4)
                found.types[item] = name
                _expect_few(len(found.types))
        elif kind == b"iprp":
            for part, at_part, part_end in _boxes(data, at, end):
                if part == b"ipco":
                    found.properties += islice(_boxes(data, at_part, part_end), MAX_ITEMS + 1)
                    _expect_few(len(found.properties))
                elif part == b"ipma":
                    _associations(data, at_part, found)
        elif kind == b"idat":
            inside = at, end
    for kind, at, _ in _boxes(data, start + 4, stop):
        if kind == b"iloc":
            _locations(data, at, found, inside)
    return found


def _expect_few(count: int) -> None:
    if count > MAX_ITEMS:
        raise ImageError("image_unsupported", f"an AVIF of more than {MAX_ITEMS} items, extents, properties or units")


def _associations(data: bytes, at: int, found: _Meta) -> None:
    wide, large = data[at + 3] & 1, data[at]
    (count,) = struct.unpack_from(">I", data, at + 4)
    _expect_few(count)
    at += 8
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if large else ">H", data, at)
        at += 4 if large else 2
        many = data[at]
        at += 1
        for _ in range(many):
            index = struct.unpack_from(">H", data, at)[0] & 0x7FFF if wide else data[at] & 0x7F
            at += 1 + wide
            found.of_item.setdefault(item, []).append(index)


def _locations(data: bytes, at: int, found: _Meta, inside: tuple[int, int]) -> None:
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    widths = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", data, at + 6)
    _expect_few(count)
    at += 10 if version == 2 else 8
    total = extents = 0

    def number(width: int) -> int:
        nonlocal at
        if at + width > len(data):
            raise IndexError
        at += width
        return int.from_bytes(data[at - width : at], "big")

    for _ in range(count):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(widths[2]) + (inside[0] if method == 1 else 0)
        if method > 1:
            raise ImageError("image_unsupported", "an AVIF item that lies in another item")
        for _ in range(number(2)):
            number(widths[3])
            offset, length = base + number(widths[0]), number(widths[1])
            if offset + length > len(data):
                raise ImageError("image_truncated", f"an AVIF item ends at {offset + length} of {len(data)}")
            length = length or len(data) - offset
            found.extents.setdefault(item, []).append((offset, length))
            total, extents = total + length, extents + 1
            _expect_few(extents)
            if total > 2 * len(data):
                raise ImageError("image_corrupt", "the AVIF's items hold more bytes than the file")


def _sizes(data: bytes, meta: _Meta, item: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Yield the (width, height) that a coded item or a grid declares."""
    if kind not in (b"av01", b"grid"):
        return
    body = b"".join(data[offset : offset + length] for offset, length in meta.extents.get(item, []))
    if kind == b"grid":
        yield struct.unpack_from(">II" if body[1] & 1 else ">HH", body, 4)
        return
    at = units = 0
    while at < len(body):
        units += 1
        _expect_few(units)
        header = body[at]
        at += 2 if header & 4 else 1
        size, shift = len(body) - at, 0
        if header & 2:
            size = 0
            while True:
                byte = body[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 or shift > 56:
                    break
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(body[at : at + size])
        at += size


def _sequence_size(header: bytes) -> tuple[int, int]:
    """Return (width, height) of the largest frame of an AV1 sequence, from its header."""
    bits, at = int.from_bytes(header[:256], "big"), 8 * min(len(header), 256)

    def take(count: int) -> int:
        nonlocal at
        at -= count
        if at < 0:
            raise IndexError
        return bits >> at & ((1 << count) - 1)

    take(4)  # profile, still picture
    if take(1):  # the reduced header of a still picture
        take(5)
    else:
        delay = _timing(take)
        displays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delay is not None and take(1):
                take(2 * delay + 1)
            if displays and take(1):
                take(4)
    across, down = take(4) + 1, take(4) + 1
    return take(across) + 1, take(down) + 1


def _timing(take: Callable[[int], int]) -> int | None:
    """Skip the timing information; return the bits of a delay in the decoder model, or None without a model."""
    if not take(1):
        return None
    take(64)
    if take(1):
        zeros = 0
        while zeros < 32 and not take(1):
            zeros += 1
        take(zeros)
    if not take(1):
        return None
    delay = take(5) + 1
    take(42)
    return delay
