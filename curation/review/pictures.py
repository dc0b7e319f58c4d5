"""Pictures for reviewers: decoded within the queue's limits and encoded again. No original byte reaches a browser.

A page or an export shows the pixels that models see: alpha flattened, first frame, no metadata. Cost: the decode, and
2 ms for a picture of 512 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2

from curation.core.errors import ReasonError
from curation.review.samples import picture_of, read_sample
from curation.shards import images
from curation.shards.images import DecodeLimits
from curation.shards.sample_reader import SampleReader

SIDE = 1024  # pixels of a shown picture's longer side, at most
LOSSLESS = 256  # longer side up to which a picture is shown as PNG: JPEG would blur what there is to see
QUALITY = 90


class ShownPicture(NamedTuple):
    """An encoded picture and its media type."""

    data: bytes
    media_type: str


def shown_picture(
    reader: SampleReader, row: Mapping[str, Any], limits: DecodeLimits, side: int = SIDE
) -> ShownPicture:  # fmt: skip
    """Read an item's picture by range and encode it, reduced to `side` pixels.

    Raises `ReasonError` with the reason for a sample that is gone or a picture that can't be decoded, and `StoreError`.
    """
    data = picture_of(read_sample(reader, row))
    pixels = images.whole(data, limits, side, images.inspect(data, limits))
    scale = min(1.0, side / max(pixels.shape[:2]))
    if scale < 1:
        width, height = (max(1, round(length * scale)) for length in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(pixels.dtype, copy=False)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    small = max(pixels.shape[:2]) <= LOSSLESS
    extension, options = (".png", []) if small else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    done, encoded = cv2.imencode(extension, bgr, options)
    if not done:
        raise ReasonError("image_corrupt", "the decoded picture can't be encoded")
    return ShownPicture(encoded.tobytes(), "image/png" if small else "image/jpeg")
