"""PNG: transparency, depths, interlacing, and what may not be inflated."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_given import LIMITS, chunk, encoded, picture, png, refusal, shown

from curation.core.errors import ImageError
from curation.shards import png as image_png
from curation.shards.images import expect_decodable, inspect, whole


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_transparent_grey(depth: int) -> None:
    rng = np.random.default_rng(depth)
    top = (1 << depth) - 1
    grey = rng.integers(0, top + 1, (8, 16), dtype=np.uint16 if depth == 16 else np.uint8)
    key = int(grey[0, 0])
    packed = grey
    if depth < 8:
        bits = np.unpackbits(grey[..., None], axis=2)[..., 8 - depth :].reshape(8, -1)
        packed = np.packbits(bits, axis=1)
    data = png(packed, 0, chunk(b"tRNS", struct.pack(">H", key)), depth=depth)
    scaled = grey.astype(np.int64) >> 8 if depth == 16 else grey.astype(np.int64) * 255 // top
    assert np.array_equal(shown(data)[..., 0], np.where(grey == key, 255, scaled))
    assert np.array_equal(shown(data, background="black")[..., 0], np.where(grey == key, 0, scaled))
    assert np.array_equal(shown(data, background="drop_alpha")[..., 0], scaled)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_transparent_colour(dtype: type[Any]) -> None:
    colours = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (8, 8, 3), dtype=dtype)
    data = png(colours, 2, chunk(b"tRNS", struct.pack(">3H", *colours[3, 5].tolist())))
    expected = (colours >> 8 if dtype is np.uint16 else colours).astype(np.int64)
    assert np.array_equal(shown(data, background="drop_alpha"), expected)
    expected[3, 5] = 255
    assert np.array_equal(shown(data), expected)


@pytest.mark.parametrize(("colour", "channels"), [(4, 2), (6, 4)])
def test_sixteen_bits_with_alpha(colour: int, channels: int) -> None:
    pixels = np.zeros((8, 8, channels), np.uint16)
    pixels[:, 4:, -1] = 65535
    assert np.array_equal(shown(png(pixels, colour))[0, :, 0], [255] * 4 + [0] * 4)


def test_transparency_behind_the_pixels_is_none() -> None:
    data = png(np.zeros((8, 8), np.uint8), 0)
    late = data[:-12] + chunk(b"tRNS", b"\0\0") + data[-12:]
    assert not shown(late).any()


@pytest.mark.slow
def test_surplus_pixel_data_of_a_png_are_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.asarray(picture(40, 24))
    for after in (b"\0", bytes(50_000_000)):
        assert refusal(png(pixels, 2, after=after), max_pixels=40 * 24) == "image_corrupt"
    monkeypatch.setattr(image_png, "REPACKED_BYTES", 100)  # as of a large picture
    assert refusal(png(pixels, 2, after=b"\0"), max_pixels=40 * 24) == "image_corrupt"
    assert np.array_equal(shown(png(pixels, 2), max_pixels=40 * 24), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 8), (40, 24)])
def test_bounded_pngs_are_the_same_pictures(mode: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG")
    assert np.array_equal(shown(data, max_pixels=size[0] * size[1]), shown(data))


def test_bytes_of_interlaced_rows() -> None:
    for width, height, bits in ((1, 1, 8), (2, 2, 1), (3, 5, 24), (8, 8, 4), (17, 9, 64)):
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        rows = [len(range(x, width, dx)) for x, y, dx, dy in passes for _ in range(y, height, dy)]
        expected = sum(1 + (n * bits + 7) // 8 for n in rows if n)
        assert image_png.expected_bytes(width, height, bits, 1) == expected


def test_texts_and_profiles_of_a_png_are_not_inflated() -> None:
    bomb = zlib.compress(bytes(8_000_000))
    pixels = np.asarray(picture(40, 24))
    texts = [chunk(b"zTXt", b"a\0\0" + bomb) for _ in range(50)]
    data = png(pixels, 2, chunk(b"iCCP", b"a\0\0" + bomb), *texts)
    cleaned = image_png.check(data, LIMITS.max_pixels).data
    assert b"zTXt" not in cleaned and b"iCCP" not in cleaned and np.array_equal(shown(data), pixels)


def from_stream(width: int, height: int, colour: int, stream: bytes, *, depth: int = 8, pieces: int = 1) -> bytes:
    """A PNG of this zlib stream, in so many IDAT chunks, with correct CRCs."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    step = -(-len(stream) // pieces) or 1
    body = b"".join(chunk(b"IDAT", stream[at : at + step]) for at in range(0, max(len(stream), 1), step))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def outcome(data: bytes, *, decoded: bool) -> str:
    """The reason of a refusal, or "" for a picture."""
    try:
        header = inspect(data, LIMITS)
        whole(data, LIMITS, 8, header) if decoded else expect_decodable(data, LIMITS, header)
    except ImageError as error:
        return error.reason
    return ""


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.integers(1, 70), st.integers(1, 40), st.sampled_from([0, 2, 6]), st.sampled_from([0, 1, 6, 9]),
    st.integers(0, 99), st.integers(1, 3), st.sampled_from([9, 10, 15]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=2), st.integers(0, 8), st.booleans(),
)  # fmt: skip
def test_what_needs_no_decode_can_be_decoded(
    width: int, height: int, colour: int, level: int, seed: int, pieces: int, window: int,
    flips: list[tuple[int, int]], cut: int, surplus: bool,
) -> None:  # fmt: skip
    """Of sound and of damaged streams: the outcome is that of a decode."""
    rng = np.random.default_rng(seed)
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = rng.integers(0, 1 + seed % 5 * 60, (height, 1 + width * channels), np.uint8)
    rows[:, 0] = rng.integers(0, 5 + (seed % 10 == 0), height)
    packer = zlib.compressobj(level, zlib.DEFLATED, window)
    stream = bytearray(packer.compress(rows.tobytes() + b"\0" * surplus) + packer.flush())
    for at, value in flips:
        stream[at % len(stream)] = value
    data = from_stream(width, height, colour, bytes(stream[: len(stream) - cut * (cut > 5)]), pieces=pieces)
    assert outcome(data, decoded=False) == outcome(data, decoded=True)


@pytest.mark.parametrize("colour", [0, 2, 6])
def test_common_pictures_need_no_decode(colour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, {0: 1, 2: 3, 6: 4}[colour]), np.uint8)
    data = png(pixels.squeeze(), colour)
    assert image_png.has_sound_rows(image_png.check(data, 1 << 20))
    monkeypatch.setattr(image_png, "COMMON_SIDE", 39)
    assert not image_png.has_sound_rows(image_png.check(data, 1 << 20))
