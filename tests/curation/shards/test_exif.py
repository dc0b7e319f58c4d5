"""EXIF: pictures are turned where the recipe asks for it, and damage in it is no damage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures_given import LIMITS, encoded, picture, shown
from PIL import Image, ImageOps

from curation.shards import exif as image_exif
from curation.shards.images import DecodeLimits, inspect


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_only_when_asked(fmt: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(40, 24), fmt, exif=exif, quality=95)
    plain = Image.open(io.BytesIO(data))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")).astype(np.int64)
    assert np.abs(shown(data) - np.asarray(plain.convert("RGB"))).max() <= 2
    assert inspect(data, LIMITS)[1:3] == (40, 24)
    turned = DecodeLimits(auto_orient=True)
    assert inspect(data, turned)[1:3] == ((24, 40) if orientation > 4 else (40, 24))
    assert np.abs(shown(data, auto_orient=True) - upright).max() <= 2


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(30), b"x" * 50]
)
def test_damaged_exif_is_no_damage(exif: bytes) -> None:
    for fmt in ("JPEG", "WEBP"):
        data = encoded(picture(40, 24), fmt, exif=b"Exif\0\0" + exif)
        assert np.array_equal(shown(data, auto_orient=True), shown(data))


def test_exif_is_not_looked_for_endlessly() -> None:
    data = encoded(picture(40, 24), "JPEG")
    padded = data[:2] + b"\xff" * 500_000 + data[2:]
    assert image_exif.orientation(padded, "jpeg") == 1
    assert np.array_equal(shown(padded, auto_orient=True), shown(data))
