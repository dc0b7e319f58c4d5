"""AVIF: sizes and tables that lie."""

from __future__ import annotations

import struct

import pytest
from pictures_given import encoded, refusal, shown
from PIL import Image

from curation.core.errors import ImageError
from curation.shards import avif as image_avif


def test_an_avif_whose_boxes_lie_about_its_size() -> None:
    data = encoded(Image.new("RGB", (600, 500), "red"), "AVIF")
    at = data.index(b"ispe") + 8
    lie = data[:at] + struct.pack(">II", 10, 10) + data[at + 8 :]
    assert refusal(lie, max_pixels=10_000) == "image_too_many_pixels"
    assert shown(lie).shape == (10, 10, 3)  # libavif scales to what the container says


def test_avifs_of_endless_tables() -> None:
    items = bytes(6) + struct.pack(">H", 4096) + struct.pack(">HHH", 1, 0, 0xFFFF) * 4096  # extents of no bytes each
    with pytest.raises(ImageError):
        image_avif._locations(items, 0, image_avif._Meta(), (0, 0))
    with pytest.raises(ImageError, match="more than 4096"):
        image_avif._associations(bytes(4) + b"\xff" * 50, 0, image_avif._Meta())
    with pytest.raises(ImageError, match="more than 4096"):
        list(image_avif._sizes(b"\x12\0" * 5000, image_avif._Meta(extents={1: [(0, 10_000)]}), 1, b"av01"))
