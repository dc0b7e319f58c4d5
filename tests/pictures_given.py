"""Small pictures in every format, and what the decoder shows or refuses of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curation.core.errors import ImageError
from curation.shards.images import REASONS, DecodeLimits, decode, inspect, whole

LIMITS = DecodeLimits()


WHITE = (255, 255, 255)


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(x / 9 + y / 17), 128 + 100 * np.cos(x / 23), 128 + 90 * np.sin(y / 15)], -1)
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


def drawing(width: int = 40, height: int = 30, mode: str = "RGBA") -> Image.Image:
    """Black behind a full range of alpha: clear at the left, opaque at the right."""
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    image = Image.new(mode[:-1], (width, height), 0)
    image.putalpha(Image.fromarray(alpha))
    return image


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: npt.NDArray[Any], colour: int, *extra: bytes, depth: int | None = None, after: bytes = b"") -> bytes:
    """A PNG of raw rows; `extra` chunks before the pixels, `after` behind their last byte, within the stream."""
    height, width = pixels.shape[:2]
    size = depth or 8 * pixels.dtype.itemsize
    big = pixels.astype(">u2") if size == 16 else pixels
    raw = b"".join(b"\0" + row.tobytes() for row in big)
    header = struct.pack(">IIBBBBB", width * 8 // size if size < 8 else width, height, size, colour, 0, 0, 0)
    body = zlib.compress(raw + after)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def shown(data: bytes, **limits: Any) -> npt.NDArray[np.int64]:
    """The whole picture as a model sees it."""
    allowed = DecodeLimits(**limits)
    header = inspect(data, allowed)
    pixels = whole(data, allowed, 1 << 14, header)
    assert pixels.shape == (header.height, header.width, 3) and pixels.dtype == np.uint8
    return pixels.astype(np.int64)


def refusal(data: bytes, **limits: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, DecodeLimits(**limits), 32)
    assert caught.value.reason in REASONS
    return caught.value.reason


GREY16 = Image.fromarray((np.arange(40 * 24, dtype=np.uint16) * 60).reshape(24, 40))


OTHERS = {
    "gif": encoded(picture(40, 24).quantize(64), "GIF"),
    "gif of grey": encoded(picture(40, 24).convert("L"), "GIF"),
    "avif": encoded(picture(40, 24), "AVIF", quality=100),
    "bmp": encoded(picture(40, 24), "BMP"),
    "bmp of a palette": encoded(picture(40, 24).quantize(16), "BMP"),
    "bmp of a bit": encoded(picture(40, 24).convert("1"), "BMP"),
    **{f"tiff of {mode}": encoded(picture(40, 24).convert(mode), "TIFF") for mode in ("RGB", "L", "1", "CMYK", "P")},
    **{
        f"tiff by {name}": encoded(picture(40, 24), "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate")
    },
    "tiff by fax": encoded(picture(40, 24).convert("1"), "TIFF", compression="group4"),
}
