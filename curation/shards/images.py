"""Decoding of untrusted images to square RGB arrays: first the limits, then a strict decode, then one resize.

`inspect` reads format and dimensions from the header and applies the limits before memory is allocated for pixels.
`decode` returns a complete image or raises `ImageError`; it never fills missing rows with grey: libjpeg-turbo runs in
strict mode, PNG chunks and their CRCs are checked up to IEND (libpng then refuses short pixel data), a WebP must have
its declared length, and GIF, BMP and TIFF are checked before Pillow decodes them (`image_pillow`).
JPEGs are decoded at the smallest DCT scale (1/2 or less) that keeps both sides >= the requested size, which changes
pixels. Of an animation, only the first frame is decoded. Colour profiles are ignored, as by PIL's `convert("RGB")`; of
16 bits a channel the high byte is kept, also for grey, which PIL clips to white.

Alpha is flattened onto white, as in img2dataset and in browsers: PIL's `convert("RGB")` drops it, so that drawings on a
transparent background become black on black. `limits.background` selects white, black or drop_alpha.
EXIF orientation is ignored, as by open_clip's loader; `limits.auto_orient` turns JPEG, PNG, WebP and AVIF upright. A
TIFF's own orientation always applies, because Pillow's loader applies it; GIF and BMP have none.
Refused as `image_unsupported`: 12-bit and lossless JPEG, run-length BMP, animated AVIF, BigTIFF, and TIFF with floats
or more than 16 bits a channel.

Importing this module limits OpenCV to one thread and silences its log, for the whole process. Workers are processes,
one a core, and a thread pool in each would oversubscribe the machine (7-60x slower under load); on hostile input OpenCV
logs a paragraph a sample (libpng still prints a line to stderr for invalid PNGs whose checksums are right).

Cost, one shared core (in brackets: Pillow's decode and bicubic resize): PNG 64 -> 64 px 0.12 ms (0.16), 256 -> 64
2.6 (3.5), 512x384 -> 224 6.9 (8.5); JPEG 512x384 -> 64 0.4 (2.3), -> 224 1.8 (3.2), 1024x768 -> 224 2.8 (9.6); WebP
512x384 -> 224 4.7 (5.1). With alpha, 512x384 -> 224: PNG 8.9, 1.9 more than without its flattening; WebP 4.5, 0.6 more;
AVIF without alpha 5.0. Mean difference from Pillow's antialiased bicubic: 0.4 to 1.1 of 255 levels, 2.5 where the DCT
scaling meets fine patterns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import simplejpeg

from curation.core.errors import ImageError
from curation.core.types import FORMATS
from curation.shards import avif as image_avif
from curation.shards import image_headers, image_pillow, image_pixels
from curation.shards import png as image_png
from curation.shards.exif import orientation
from curation.shards.image_pixels import Background
from curation.shards.image_pixels import Pixels as Pixels

IMAGE_CODE_VERSION = 2  # part of fingerprints: increment it with any change here that changes a pixel

REASONS = {
    "image_empty": "no bytes",
    "image_too_many_bytes": "more bytes than the limit",
    "image_format": "not an allowed format, by its magic bytes",
    "image_too_many_pixels": "more pixels than the limit, by its header",
    "image_too_many_scans": "a progressive JPEG of more scans than the limits allow; each costs a pass over all pixels",
    "image_truncated": "the file ends before the image does",
    "image_unsupported": "a variant that is not decoded: 12-bit or lossless JPEG, run-length BMP, animated AVIF, "
    "BigTIFF, a TIFF with floats or more than 16 bits a channel",
    "image_corrupt": "a header, checksum or bitstream is wrong",
}

MAX_SCANS = 500  # the limit that libjpeg-turbo's tools suggest; ordinary progressive files have about 10
SCANNED = 16  # all scans of a JPEG together may decode this multiple of max_pixels: 64 Mpx take 0.3 s a scan
MAX_ASPECT = 4  # longer images are cropped to it before resizing: 1 x 60,000,000 must not become 64 x 3,840,000,000

Mode = Literal["shortest", "squash"]
cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Which images are decoded, and how. The defaults bound one decode to ~1 GB of memory (a progressive CMYK JPEG).

    `background`: the colour onto which alpha is flattened, or `drop_alpha` for the colours behind it. `auto_orient`:
    rotate JPEG, PNG and WebP by EXIF, and AVIF by its `irot` and `imir`; a TIFF's orientation always applies.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 64 << 20
    formats: tuple[str, ...] = FORMATS
    background: Background = "white"
    auto_orient: bool = False


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The input of a model: `size` x `size` RGB pixels, normalised as (x / 255 - mean) / std.

    Mode "shortest" resizes the short side to `size` and crops the centre; "squash" ignores the aspect ratio.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: Mode = "shortest"


class ImageHeader(NamedTuple):
    """The format, and the dimensions in pixels after any rotation."""

    format: str
    width: int
    height: int
    orientation: int = 1


def inspect(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """Return format and dimensions of an image that the limits allow. Reads only the header; ~3 us.

    Raises `ImageError` for an image that is empty, too large, of another format, or damaged in its header.
    """
    if not data:
        raise ImageError("image_empty", "no bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("image_too_many_bytes", f"{len(data)} bytes, more than {limits.max_bytes}")
    name = image_headers.sniff(data)
    if name not in limits.formats:
        raise ImageError("image_format", f"{name or 'unknown'}, not {' or '.join(limits.formats)}: {data[:8]!r}")
    try:
        width, height = _DIMENSIONS[name](data, limits)
        turn = _orientation(data, name, limits) if limits.auto_orient else 1
    except (struct.error, IndexError):
        raise ImageError("image_truncated", f"ends inside the header, after {len(data)} bytes") from None
    if width < 1 or height < 1:
        raise ImageError("image_corrupt", f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise ImageError("image_too_many_pixels", f"{width} x {height} pixels, more than {limits.max_pixels}")
    return ImageHeader(name, height, width, turn) if turn > 4 else ImageHeader(name, width, height, turn)


def _orientation(data: bytes, name: str, limits: DecodeLimits) -> int:
    return image_avif.avif(data, limits.max_pixels).orientation if name == "avif" else orientation(data, name)


def decode(
    data: bytes, limits: DecodeLimits, size: int, mode: Mode = "shortest", header: ImageHeader | None = None
) -> Pixels:
    """Decode an image to RGB, uint8 [size, size, 3]. Thread-safe; the decoders release the GIL.

    `header`: the result of `inspect` for this image and these limits, if the caller has it. Raises `ImageError`.
    """
    return fit(whole(data, limits, size, header or inspect(data, limits)), size, mode)


def expect_decodable(data: bytes, limits: DecodeLimits, header: ImageHeader) -> None:
    """Raise the `ImageError` that `decode` would, for a caller that needs no pixels.

    Cost: that of a decode at the smallest scale, without a resize; of a common PNG, an inflate.
    """
    if header.format == "png" and image_png.has_sound_rows(image_png.check(data, limits.max_pixels)):
        return
    whole(data, limits, 8, header)


def whole(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    """Decode without resizing to RGB, uint8 [H, W, 3]; a JPEG at the smallest DCT scale with both sides >= `size`.

    Raises `ImageError`.
    """
    pixels = _DECODERS[header.format](data, limits, size, header)
    height, width = (header.width, header.height) if header.orientation > 4 else (header.height, header.width)
    if header.format != "jpeg" and pixels.shape != (height, width, 3):
        raise ImageError("image_corrupt", "decoded to another size than its header says")
    return pixels if header.orientation == 1 else image_pixels.turned(pixels, header.orientation)


def fit(pixels: Pixels, size: int, mode: Mode) -> Pixels:
    """Resize and crop [H, W, 3] to [size, size, 3], with torchvision's rounding, so that crops equal open_clip's."""
    height, width = pixels.shape[:2]
    if mode == "squash":
        return _resize(pixels, size, size)
    longest = MAX_ASPECT * min(height, width)
    if max(height, width) > longest:
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        pixels = pixels[top : top + longest, left : left + longest]
        height, width = pixels.shape[:2]
    if width <= height:
        pixels = _resize(pixels, size, int(size * height / width))
    else:
        pixels = _resize(pixels, int(size * width / height), size)
    top, left = round((pixels.shape[0] - size) / 2), round((pixels.shape[1] - size) / 2)
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Shrink axes by area averaging, because OpenCV's other kernels alias; then enlarge axes bicubically."""
    old_height, old_width = pixels.shape[:2]
    smaller = min(width, old_width), min(height, old_height)
    if smaller != (old_width, old_height):
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if smaller != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    return pixels


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG: entropy-coded data escapes every 0xff, so 0xff 0xda is always a marker.

    As 16-bit words at even and at odd places: a quarter of the time of `bytes.count`, which was 8 % of a JPEG's.
    """
    words = (np.frombuffer(data, "<u2", (len(data) - odd) // 2, odd) for odd in (0, 1))
    return sum(int(np.count_nonzero(word == 0xDAFF)) for word in words)


def _jpeg(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    scans = count_scans(data)
    if scans > min(MAX_SCANS, max(1, SCANNED * limits.max_pixels // (header.width * header.height))):
        raise ImageError("image_too_many_scans", f"{scans} scans of {header.width} x {header.height} pixels")
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, min_factor=2)
    except ValueError as error:
        raise image_headers.jpeg_error(data, error) from None
    return pixels


def _png(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    return image_pixels.of_png(image_png.check(data, limits.max_pixels), limits.background)


def _webp(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    image_headers.check_webp(data)
    return image_pixels.of_webp(data, limits.background)


def _avif(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    depth = image_avif.avif(data, limits.max_pixels).depth
    return image_pixels.of_avif(data, depth, limits.background)


def _gif(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    return image_pillow.by_pillow(image_pillow.gif(data).data, "GIF", limits.background)


def _bmp(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    return image_pillow.by_pillow(data, "BMP", limits.background)


def _tiff(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    found = image_pillow.tiff(data, limits.max_pixels)[0]
    image_pillow.check_strips(found, limits.max_pixels)
    return image_pillow.by_pillow(image_pillow.without_directories(found), "TIFF", limits.background)


_DECODERS: dict[str, Callable[[bytes, DecodeLimits, int, ImageHeader], Pixels]] = {
    "jpeg": _jpeg, "png": _png, "webp": _webp, "gif": _gif, "bmp": _bmp, "tiff": _tiff, "avif": _avif,
}  # fmt: skip
_DIMENSIONS: dict[str, Callable[[bytes, DecodeLimits], tuple[int, int]]] = {
    "jpeg": lambda data, _: image_headers.jpeg_dimensions(data),
    "png": lambda data, _: image_headers.png_dimensions(data),
    "webp": lambda data, _: image_headers.webp_dimensions(data),
    "gif": lambda data, _: image_pillow.gif(data)[1:],
    "bmp": lambda data, _: image_pillow.bmp_dimensions(data),
    "tiff": lambda data, limits: image_pillow.tiff(data, limits.max_pixels)[1:],
    "avif": lambda data, limits: image_avif.avif(data, limits.max_pixels)[:2],
}
