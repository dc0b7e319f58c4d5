"""PNG checks before libpng: every chunk and its CRC; only the chunks that make the picture; no surplus pixel data.

Our own because libpng inflates all of IDAT, even after the last row, at 2.8 CPU seconds a megabyte of zeros, and keeps
up to 1,000 compressed texts of 8 MB each. Texts, profiles and animation frames are therefore removed. Pixel data that
could exceed the largest allowed image is inflated here, up to the size that the header declares, and passed on
uncompressed.
Cost: ~1 GB/s for the walk; the bounded inflate adds 10 to 20 % to a decode, of files above max_pixels / 258 bytes only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from curation.core.errors import ImageError

DEFLATE_RATIO = 1032  # the largest expansion of a byte of deflate data (zlib's technical notes)
COMMON_SIDE = 4096  # pixels; below all limits of libpng and OpenCV
REPACKED_BYTES = 32 << 20  # pixel data up to this size is passed on inflated; larger data is inflated twice

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> channels
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_END = b"\0\0\0\0IEND\xaeB`\x82"
_ANCILLARY = 0x20  # bit of a chunk's first letter: decoders may ignore it
_AFTER_HEADER = 33  # signature and IHDR
_LONGEST_DISTANCE = 1 << 15  # of deflate
_LAST_FILTER = 4  # Paeth
_PIECE = 4 << 20  # bytes inflated at a time


class Png(NamedTuple):
    """The bytes to decode, with bit depth, colour type, and the content of the tRNS chunk (`transparency`)."""

    data: bytes
    depth: int
    colour: int
    transparency: bytes | None

    @property
    def has_alpha(self) -> bool:
        """Whether any pixel may be transparent."""
        return self.colour in (4, 6) or self.transparency is not None


def check(data: bytes, max_pixels: int) -> Png:
    """Check all chunks up to IEND and return the PNG to decode.

    Raises `ImageError` for a PNG that is truncated, damaged, or holds more pixel data than its header declares.
    """
    view = memoryview(data)
    head, pixels = [data[:8]], list[memoryview]()  # the chunks before the pixels; the pixel data
    spans: list[tuple[int, int]] = []  # (start, stop) of the chunks that make the picture
    transparency, plain = None, True
    for at, stop, kind in _chunks(data, view):
        if kind not in _PIXELS and kind[0] & _ANCILLARY:
            plain = False
            continue
        spans.append((at, stop))
        if kind == b"IDAT":
            pixels.append(view[at + 8 : stop - 4])
        elif not pixels:
            head.append(data[at:stop])
            transparency = data[at + 8 : stop - 4] if kind == b"tRNS" else transparency
    depth, colour, _, _, interlaced = data[24:29]
    if colour in _CHANNELS and sum(map(len, pixels)) * DEFLATE_RATIO > 4 * max_pixels:
        width, height = struct.unpack_from(">II", data, 16)
        body = _inflated(pixels, expected_bytes(width, height, depth * _CHANNELS[colour], interlaced))
        if body is not None:
            return Png(b"".join([*head, *_chunk(b"IDAT", zlib.compress(body, 0)), _END]), depth, colour, transparency)
    if not plain:
        data = data[:8] + b"".join(data[start:stop] for start, stop in spans)
    return Png(data, depth, colour, transparency)


def has_sound_rows(png: Png) -> bool:
    """Whether a checked PNG is of the common kind and all its rows are there, so that libpng decodes it without fail.

    False means nothing: decode it to know. Common: 8 bits a channel, grey, RGB or RGBA, neither palette nor
    transparent colour, not interlaced, at most `COMMON_SIDE` pixels a side. Cost: an inflate, a third of a decode.
    """
    data, pixels = png.data, list[memoryview]()
    width, height, depth, colour, *rest = struct.unpack_from(">IIBBBBB", data, 16)
    if (depth, rest) != (8, [0, 0, 0]) or colour not in (0, 2, 6) or not 0 < max(width, height) <= COMMON_SIDE:
        return False
    view, at = memoryview(data), _AFTER_HEADER
    if data[8:16] != b"\0\0\0\rIHDR":
        return False
    while data[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        pixels.append(view[at + 8 : at + 8 + length])
        at += 12 + length
    if data[at : at + 12] != _END:
        return False
    stride, inflater, body = 1 + width * _CHANNELS[colour], zlib.decompressobj(), b"".join(pixels)
    if not body or 1 << (body[0] >> 4) + 8 < min(height * stride, _LONGEST_DISTANCE):
        return False  # libpng inflates row by row, and refuses distances beyond the window that the stream declares
    try:
        rows = inflater.decompress(body, height * stride + 1)
    except zlib.error:
        return False
    complete = inflater.eof and not inflater.unused_data and len(rows) == height * stride
    return complete and max(rows[::stride], default=0) <= _LAST_FILTER


def _chunks(data: bytes, view: memoryview) -> Iterator[tuple[int, int, bytes]]:
    """Yield (start, stop, kind) of every chunk after checking its CRC."""
    at, kind = 8, b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ImageError("image_truncated", f"PNG without IEND, ends at {len(data)}")
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if stop > len(data):
            raise ImageError("image_truncated", f"a PNG chunk ends at {stop} of {len(data)}")
        if zlib.crc32(view[at + 4 : stop - 4]) != int.from_bytes(view[stop - 4 : stop], "big"):
            raise ImageError("image_corrupt", f"wrong CRC of the PNG chunk at {at}")
        yield at, stop, kind
        at = stop


def _chunk(kind: bytes, body: bytes) -> list[bytes]:
    return [struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))]


def expected_bytes(width: int, height: int, bits: int, interlaced: int) -> int:
    """Return the bytes of an image's rows, each with its filter byte. `bits`: bits a pixel."""
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _inflated(pixels: list[memoryview], size: int) -> bytes | None:
    """Inflate and check the pixel data, at most `size` bytes; None if it is valid but too large to hold twice."""
    inflater, found, pieces = zlib.decompressobj(), 0, list[bytes]()
    try:
        for piece in pixels:
            rest: bytes | memoryview = piece
            while not inflater.eof:
                room = min(size + 1 - found, _PIECE)
                some = inflater.decompress(rest, room)
                found += len(some)
                if found > size:
                    raise ImageError("image_corrupt", f"PNG with more pixel data than the {size} bytes of its rows")
                if size <= REPACKED_BYTES:
                    pieces.append(some)
                rest = inflater.unconsumed_tail
                if not rest and len(some) < room:
                    break
    except zlib.error as error:
        raise ImageError("image_corrupt", f"PNG pixel data: {error}") from None
    if not inflater.eof:
        raise ImageError("image_corrupt", "the PNG's pixel data end too soon")
    return b"".join(pieces) if size <= REPACKED_BYTES else None
