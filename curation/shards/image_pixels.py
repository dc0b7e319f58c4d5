"""Conversion of decoded pixels to the RGB that models see: alpha flattened, rotated by EXIF.

OpenCV decodes PNG, WebP and AVIF here.
Of 16 bits a channel the high byte is kept, also for grey, where PIL's `convert("RGB")` clips to white.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from curation.core.errors import ImageError
from curation.shards.png import Png

Background = Literal["white", "black", "drop_alpha"]
Pixels = npt.NDArray[np.uint8]

_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def opaque(data: bytes) -> Pixels:
    """Decode a PNG or WebP to RGB, uint8 [H, W, 3], and drop its alpha. Raises `ImageError`."""
    pixels = _imdecode(data, _RGB)
    if pixels.dtype != np.uint8:
        raise ImageError("image_corrupt", "the decoder refused it")
    return pixels


def of_png(png: Png, background: Background) -> Pixels:
    """Decode a checked PNG to RGB, uint8 [H, W, 3]: with alpha channels, palettes with alpha, and transparent colours.

    Raises `ImageError`.
    """
    if background == "drop_alpha" or not png.has_alpha:
        return opaque(png.data)
    pixels = _imdecode(png.data, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:  # OpenCV loses libpng's alpha for a transparent grey
        pixels = _with_key(pixels, png)
    return flatten(pixels, background)


def of_webp(data: bytes, background: Background) -> Pixels:
    """Decode a WebP's first frame to RGB, uint8 [H, W, 3]. Raises `ImageError`."""
    if background == "drop_alpha" or data[12:16] == b"VP8 ":
        return opaque(data)
    return flatten(_imdecode(data, cv2.IMREAD_UNCHANGED), background)


def of_avif(data: bytes, depth: int, background: Background) -> Pixels:
    """Decode a checked AVIF to RGB, uint8 [H, W, 3]. `depth`: bits a channel (8, 10, 12), which OpenCV keeps."""
    pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> max(depth - 8, 0)).astype(np.uint8)
    return flatten(pixels, background)


def flatten(pixels: npt.NDArray[Any], background: Background) -> Pixels:
    """Convert grey, BGR or BGRA with 8 or 16 bits to RGB, uint8 [H, W, 3].

    Formula: `colour * alpha + background * (1 - alpha)`, exact to half a level. Raises `ImageError` for other pixels.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ImageError("image_unsupported", f"pixels of {pixels.dtype}")
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return over(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), pixels[:, :, 3], background)


def over(colour: npt.NDArray[Any], alpha: npt.NDArray[Any], background: Background) -> Pixels:
    """Blend RGB, uint8 [H, W, 3], with alpha, uint8 [H, W], over a background."""
    if background == "drop_alpha" or alpha.min() == 255:
        return colour.astype(np.uint8, copy=False)
    alpha = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    seen = cv2.multiply(colour, alpha, scale=1 / 255)
    if background == "white":
        seen = cv2.add(seen, cv2.bitwise_not(alpha))
    return seen.astype(np.uint8, copy=False)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Rotate and mirror pixels [H, W, 3] upright, by an EXIF orientation from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _with_key(grey: npt.NDArray[Any], png: Png) -> npt.NDArray[Any]:
    """Return BGRA for a grey image with one transparent grey value, named by its tRNS chunk."""
    if png.transparency is None or len(png.transparency) != 2:
        return grey
    (key,) = struct.unpack(">H", png.transparency)
    key &= (1 << png.depth) - 1
    if png.depth < 8:
        key = key * 255 // ((1 << png.depth) - 1)
    alpha = np.where(grey == key, 0, 255).astype(np.uint8)
    if grey.dtype == np.uint16:
        grey = (grey >> 8).astype(np.uint8)
    return np.dstack([grey, grey, grey, alpha])


def _imdecode(data: bytes, flags: int) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError("image_corrupt", " ".join(str(error).split())[:200]) from None
    if pixels is None:
        raise ImageError("image_corrupt", "the decoder refused it")
    return pixels
