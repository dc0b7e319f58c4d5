"""Decoded pixels to RGB as a model sees them: alpha flattened, turned as EXIF says. OpenCV for PNG and WebP.

16 bits a channel become 8 by their high byte, also for grey, where PIL's `convert("RGB")` clips to white.
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
    """RGB of a PNG or WebP, its alpha dropped."""
    pixels = _imdecode(data, _RGB)
    if pixels.dtype != np.uint8:
        raise ImageError("image_corrupt", "the decoder refused it")
    return pixels


def of_png(png: Png, background: Background) -> Pixels:
    """RGB of a checked PNG: alpha channels, palettes with alpha, and one transparent colour or grey."""
    if background == "drop_alpha" or not png.has_alpha:
        return opaque(png.data)
    pixels = _imdecode(png.data, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:  # libpng's alpha of a transparent grey is lost in OpenCV
        pixels = _with_key(pixels, png)
    return flatten(pixels, background)


def of_webp(data: bytes, background: Background) -> Pixels:
    """RGB of a WebP's first frame."""
    if background == "drop_alpha" or data[12:16] == b"VP8 ":
        return opaque(data)
    return flatten(_imdecode(data, cv2.IMREAD_UNCHANGED), background)


def of_avif(data: bytes, depth: int, background: Background) -> Pixels:
    """RGB of a checked AVIF of 8, 10 or 12 bits a channel, which OpenCV leaves as they are."""
    pixels = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> max(depth - 8, 0)).astype(np.uint8)
    return flatten(pixels, background)


def flatten(pixels: npt.NDArray[Any], background: Background) -> Pixels:
    """RGB of grey, BGR or BGRA with 8 or 16 bits: `colour * alpha + background * (1 - alpha)`, to half a level."""
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
    """RGB over a background. uint8 [H, W, 3] and [H, W]."""
    if background == "drop_alpha" or alpha.min() == 255:
        return colour.astype(np.uint8, copy=False)
    alpha = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    seen = cv2.multiply(colour, alpha, scale=1 / 255)
    if background == "white":
        seen = cv2.add(seen, cv2.bitwise_not(alpha))
    return seen.astype(np.uint8, copy=False)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Upright, by an EXIF orientation from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _with_key(grey: npt.NDArray[Any], png: Png) -> npt.NDArray[Any]:
    """BGRA of a grey picture whose one transparent grey tRNS names."""
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
