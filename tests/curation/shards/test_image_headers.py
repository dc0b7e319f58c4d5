"""Headers of pictures: the format and the sizes that the first bytes name, without a decoder."""

from __future__ import annotations

import pytest
from pictures_given import encoded, picture, refusal, shown

from curation.core.errors import ImageError
from curation.shards.image_headers import check_webp, jpeg_dimensions, png_dimensions, sniff, webp_dimensions


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_first_bytes_name_the_format(fmt: str) -> None:
    assert sniff(encoded(picture(40, 24), fmt)) == fmt.lower()


@pytest.mark.parametrize("data", [b"<html>503 slow", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypisom"])
def test_other_bytes_name_no_format(data: bytes) -> None:
    assert sniff(data) == ""


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_a_beginning_of_a_picture_is_truncated(fmt: str) -> None:
    with pytest.raises(ImageError) as caught:
        sniff(encoded(picture(40, 24), fmt)[:2])
    assert caught.value.reason == "image_truncated"


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["VP8", "VP8L", "VP8X"])
def test_every_kind_of_webp_names_its_size(options: dict[str, object]) -> None:
    data = encoded(picture(40, 24), "WEBP", **options)
    assert webp_dimensions(data) == (40, 24)
    check_webp(data)
    with pytest.raises(ImageError):
        check_webp(data[:-2])


def test_sizes_of_jpeg_and_png() -> None:
    assert jpeg_dimensions(encoded(picture(40, 24), "JPEG")) == (40, 24)
    assert png_dimensions(encoded(picture(40, 24), "PNG")) == (40, 24)


def test_scans_of_a_large_jpeg_are_few() -> None:
    data = encoded(picture(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert refusal(data[:-2] + scan * 30 + data[-2:], max_pixels=64 * 64) == "image_too_many_scans"
    assert shown(data, max_pixels=64 * 64).shape == (64, 64, 3)
