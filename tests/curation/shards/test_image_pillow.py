"""GIF, BMP and TIFF: as Pillow shows them, whole or refused."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_given import GREY16, LIMITS, OTHERS, encoded, picture, refusal, shown
from PIL import Image, TiffImagePlugin

from curation.core.errors import ImageError
from curation.shards import exif as image_exif
from curation.shards import image_pillow
from curation.shards.images import REASONS, DecodeLimits, decode, inspect


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_gif_with_a_transparent_colour(interlace: int) -> None:
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (5, 0, 20, 10))
    data = encoded(image, "GIF", transparency=0, interlace=interlace)
    assert shown(data)[3, 2].tolist() == [255, 255, 255] and shown(data)[3, 9].tolist() == [10, 200, 30]
    assert shown(data, background="drop_alpha")[3, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_always_turned_as_pillow_does(orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    data = encoded(picture(40, 24), "TIFF", tiffinfo=tags)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(shown(data), expected) and np.array_equal(shown(data, auto_orient=True), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_seen_as_pil_sees_them(name: str) -> None:
    data = OTHERS[name]
    assert inspect(data, LIMITS)[:3] == (name.partition(" ")[0], 40, 24)
    assert np.abs(shown(data) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).max() <= 1
    assert refusal(data, max_pixels=40 * 24 - 1) == "image_too_many_pixels"
    assert refusal(data, formats=("jpeg",)) == "image_format"


@pytest.mark.parametrize("name", OTHERS)
def test_no_cut_of_other_formats_gives_a_picture(name: str) -> None:
    data = OTHERS[name]
    found = {refusal(data[:cut]) for cut in [*range(1, len(data), max(1, len(data) // 400)), len(data) - 1]}
    assert found <= {"image_truncated", "image_corrupt"}
    assert name.startswith(("bmp", "tiff")) or "image_truncated" in found


def test_sixteen_bits_in_a_tiff_are_scaled() -> None:
    data = encoded(GREY16, "TIFF")
    assert np.array_equal(shown(data)[..., 0], np.asarray(GREY16) >> 8)
    ten = np.asarray(picture(40, 24)).astype(np.uint16) << 2
    avif = cv2.imencode(".avif", ten[..., ::-1], [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100])[1]
    assert np.abs(shown(avif.tobytes()) - np.asarray(picture(40, 24))).max() <= 3


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(fmt: str) -> None:
    first = picture(32, 32).quantize(32).convert("RGB")
    data = encoded(first, fmt, save_all=True, append_images=[first.rotate(90), first.rotate(180)], lossless=True)
    assert np.array_equal(shown(data), np.asarray(first))


def test_a_gif_without_trailer_or_frame() -> None:
    data = OTHERS["gif"]
    assert refusal(data[:-1]) == "image_truncated"
    assert refusal(data[:13] + b";") in ("image_corrupt", "image_truncated")
    short = bytearray(data)
    at = data.index(b",", 13 + 3 * 64)
    struct.pack_into("<HH", short, at + 5, 400, 240)  # a frame larger than its data
    assert refusal(bytes(short)) in ("image_truncated", "image_corrupt")


def test_a_gif_frame_beyond_its_canvas_counts_with_it() -> None:
    data = bytearray(OTHERS["gif"])
    at = data.index(b",", 13 + 3 * 64)
    struct.pack_into("<HH", data, at + 1, 60_000, 60_000)
    assert refusal(bytes(data)) == "image_too_many_pixels"


def test_what_is_not_decoded_says_so() -> None:
    bmp = bytearray(OTHERS["bmp of a palette"])
    struct.pack_into("<I", bmp, 30, 1)
    assert refusal(bytes(bmp)) == "image_unsupported"
    assert refusal(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF")) == "image_unsupported"
    assert refusal(encoded(picture(8, 8), "AVIF", save_all=True, append_images=[picture(8, 8)])) == "image_unsupported"


def test_a_gif_with_megabytes_of_comment() -> None:
    data = OTHERS["gif"]
    comment = b"\x21\xfe" + (b"\xff" + b"c" * 255) * 20_000 + b"\0"  # 5 MB, which Pillow would join 20,000 times
    at = 13 + 3 * 64
    assert np.array_equal(shown(data[:at] + comment + data[at:]), shown(data))


def test_tiffs_that_name_more_than_they_hold() -> None:
    data = encoded(picture(40, 24), "TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    own = data[at + 2 : at + 2 + 12 * count]
    many = b"".join(struct.pack("<HHII", 50_000 + n, 1, len(data) - 8, 8) for n in range(900))
    body = struct.pack("<H", count + 900) + own + many + bytes(4)
    bomb = data[:4] + struct.pack("<I", len(data)) + data[8:] + body
    assert refusal(bomb) in ("image_corrupt", "image_truncated")
    twice = struct.pack("<H", count + 1) + own + own[-12:] + bytes(4)
    assert refusal(data[:4] + struct.pack("<I", len(data)) + data[8:] + twice) == "image_corrupt"
    tiled = own + struct.pack("<HHII", 322, 4, 1, 1 << 16) + struct.pack("<HHII", 323, 4, 1, 1 << 16)
    large = struct.pack("<H", count + 2) + tiled + bytes(4)
    assert refusal(data[:4] + struct.pack("<I", len(data)) + data[8:] + large) == "image_too_many_pixels"


@pytest.mark.parametrize("name", ["jpeg", "tiff_deflate", "tiff_adobe_deflate", "tiff_lzw", "packbits"])
def test_a_tiff_whose_strip_is_blotted_out(name: str) -> None:
    data = bytearray(encoded(picture(200, 160), "TIFF", compression=name))
    found = image_exif.directory(bytes(data))
    place, count = found.numbers(273)[-1], found.numbers(279)[-1]
    data[place + count // 2 : place + count] = bytes(count - count // 2)
    assert refusal(bytes(data)) in ("image_corrupt", "image_truncated")


def test_a_tiffs_exif_directory_is_not_followed() -> None:
    data = encoded(picture(40, 24), "TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    own = data[at + 2 : at + 2 + 12 * count] + struct.pack("<HHII", 34665, 4, 1, 8)
    data = data[:4] + struct.pack("<I", len(data)) + data[8:] + struct.pack("<H", count + 1) + own + bytes(4)
    assert np.array_equal(shown(data), np.asarray(picture(40, 24)))
    left = image_exif.directory(image_pillow.without_directories(image_exif.directory(data)))
    assert 34665 in image_exif.directory(data).entries and 34665 not in left.entries


@pytest.mark.slow
@settings(max_examples=300)
@given(name=st.sampled_from(sorted(OTHERS)), seed=st.integers(0, 1 << 30), flips=st.integers(1, 8))
def test_fuzz_raises_nothing_but_image_errors(name: str, seed: int, flips: int) -> None:
    rng = random.Random(seed)
    data = bytearray(OTHERS[name])
    for _ in range(flips):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 120))] = rng.randrange(256)
    tracemalloc.start()
    try:
        limits = DecodeLimits(max_pixels=10_000, auto_orient=bool(seed % 2))
        assert decode(bytes(data), limits, 16).shape == (16, 16, 3)
    except ImageError as error:
        assert error.reason in REASONS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
