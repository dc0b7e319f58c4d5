"""Untrusted image bytes to square RGB arrays: limits first, then a strict decode, then one resize.

`inspect` reads format and dimensions from the header and applies the limits before any memory goes to pixels.
`decode` gives a whole picture or an `ImageError`, never a grey-filled one: libjpeg-turbo runs in strict mode, PNG
chunks are walked with their CRCs to IEND (libpng then refuses short pixel data), a WebP must be as long as it says;
GIF, BMP and TIFF are walked before Pillow decodes them (`image_others`).
JPEGs are decoded at the smallest DCT scale (1/2 or less) that keeps both sides >= the size asked for, which changes
pixels. Of an animation the first frame is taken. Colour profiles are ignored, as by PIL's `convert("RGB")`; 16 bits a
channel become 8 by the high byte, also for grey, which PIL clips to white.

Alpha is flattened onto white, as img2dataset does and browsers show it: PIL's `convert("RGB")` drops it, and drawings
on transparent ground become black on black. `limits.background` chooses white, black or drop_alpha.
EXIF orientation is ignored, as by open_clip's loader; `limits.auto_orient` turns JPEG, PNG, WebP and AVIF upright. A
TIFF's own orientation always applies, since Pillow's loader applies it; GIF and BMP have none.
Refused as `image_unsupported`: 12-bit and lossless JPEG, run-length BMP, animated AVIF, BigTIFF, and TIFFs of floats or
of more than 16 bits a channel.

Importing this sets OpenCV to one thread and silences its log, for the whole process: workers are processes, one a
core, and a pool of threads in each would oversubscribe the machine (7-60x slower under load); on hostile input it
logs a paragraph a sample (libpng itself still prints a line to stderr for PNGs that are wrong behind right checksums).

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
from curation.shards import image_headers, image_others, image_pixels
from curation.shards import png as image_png
from curation.shards.exif import orientation
from curation.shards.image_pixels import Background
from curation.shards.image_pixels import Pixels as Pixels

IMAGE_CODE_VERSION = 2  # goes into fingerprints: raise it with any change here that changes a pixel

REASONS = {
    "image_empty": "no bytes",
    "image_too_many_bytes": "more bytes than the limit",
    "image_format": "not a format of the allow-list, by its magic bytes",
    "image_too_many_pixels": "more pixels than the limit, by its header",
    "image_too_many_scans": "a progressive JPEG of more scans than the limits allow; each costs a pass over all pixels",
    "image_truncated": "the file ends before the image does",
    "image_unsupported": "a kind of file that is not decoded: 12-bit or lossless JPEG, run-length BMP, animated AVIF, "
    "BigTIFF, a TIFF of floats or of more than 16 bits a channel",
    "image_corrupt": "a header, checksum or bitstream is wrong",
}

MAX_SCANS = 500  # what libjpeg-turbo's own tools suggest; ordinary progressive files have about 10
SCANNED = 16  # times the limit on pixels that all scans of a JPEG may pass over: 64 Mpx cost 0.3 s a scan
MAX_ASPECT = 4  # beyond it the middle is cut out before resizing: 1 x 60,000,000 must not become 64 x 3,840,000,000

Mode = Literal["shortest", "squash"]
cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What may be decoded at all, and how. The defaults bound one decode to ~1 GB (a progressive CMYK JPEG).

    `background`: what alpha is flattened onto, or `drop_alpha` for the colours behind it. `auto_orient`: turn JPEG,
    PNG, WebP and AVIF as their EXIF (of AVIF its `irot` and `imir`) says; TIFFs are always turned as they say.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 64 << 20
    formats: tuple[str, ...] = FORMATS
    background: Background = "white"
    auto_orient: bool = False


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What a model wants to see: `size` x `size` RGB, to be normalised as (x / 255 - mean) / std.

    Mode "shortest" resizes the short side to `size` and crops the centre; "squash" ignores the aspect.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: Mode = "shortest"


class ImageHeader(NamedTuple):
    """Format, and the dimensions as a model sees them: of a turned picture, after the turn."""

    format: str
    width: int
    height: int
    orientation: int = 1


def inspect(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """Format and dimensions, if the limits allow the image. Reads the header only; ~3 us."""
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
    """The image as uint8 [size, size, 3] RGB. Raises ImageError. Thread-safe; the decoders release the GIL.

    `header` is what `inspect` said of this image under these limits, if it was asked already.
    """
    return fit(whole(data, limits, size, header or inspect(data, limits)), size, mode)


def whole(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    """The whole image, uint8 [H, W, 3] RGB; of a JPEG, the smallest DCT scale with both sides >= `size`."""
    pixels = _DECODERS[header.format](data, limits, size, header)
    height, width = (header.width, header.height) if header.orientation > 4 else (header.height, header.width)
    if header.format != "jpeg" and pixels.shape != (height, width, 3):
        raise ImageError("image_corrupt", "decoded to another size than its header says")
    return pixels if header.orientation == 1 else image_pixels.turned(pixels, header.orientation)


def fit(pixels: Pixels, size: int, mode: Mode) -> Pixels:
    """Resize and crop to [size, size, 3], with torchvision's rounding (so that open_clip's crops are the same)."""
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
    """Axes that shrink by area averaging, as OpenCV's other kernels alias; then axes that grow by bicubic."""
    old_height, old_width = pixels.shape[:2]
    smaller = min(width, old_width), min(height, old_height)
    if smaller != (old_width, old_height):
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if smaller != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    return pixels


def _jpeg(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    scans = data.count(b"\xff\xda")  # in entropy-coded data 0xff is always escaped: these are markers
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
    return image_others.by_pillow(image_others.gif(data).data, "GIF", limits.background)


def _bmp(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    return image_others.by_pillow(data, "BMP", limits.background)


def _tiff(data: bytes, limits: DecodeLimits, size: int, header: ImageHeader) -> Pixels:
    found = image_others.tiff(data, limits.max_pixels)[0]
    image_others.check_strips(found, limits.max_pixels)
    return image_others.by_pillow(image_others.without_directories(found), "TIFF", limits.background)


_DECODERS: dict[str, Callable[[bytes, DecodeLimits, int, ImageHeader], Pixels]] = {
    "jpeg": _jpeg, "png": _png, "webp": _webp, "gif": _gif, "bmp": _bmp, "tiff": _tiff, "avif": _avif,
}  # fmt: skip
_DIMENSIONS: dict[str, Callable[[bytes, DecodeLimits], tuple[int, int]]] = {
    "jpeg": lambda data, _: image_headers.jpeg_dimensions(data),
    "png": lambda data, _: image_headers.png_dimensions(data),
    "webp": lambda data, _: image_headers.webp_dimensions(data),
    "gif": lambda data, _: image_others.gif(data)[1:],
    "bmp": lambda data, _: image_others.bmp_dimensions(data),
    "tiff": lambda data, limits: image_others.tiff(data, limits.max_pixels)[1:],
    "avif": lambda data, limits: image_avif.avif(data, limits.max_pixels)[:2],
}
