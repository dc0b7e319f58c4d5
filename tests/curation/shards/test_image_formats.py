"""Alpha, orientation, and the formats beyond JPEG, PNG and WebP: what is shown, what is refused, what it may cost."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin

from curation.core.errors import ImageError
from curation.shards import avif as image_avif
from curation.shards import exif as image_exif
from curation.shards import image_others
from curation.shards import png as image_png
from curation.shards.images import REASONS, DecodeLimits, decode, inspect, whole

LIMITS = DecodeLimits()
WHITE = (255, 255, 255)


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(x / 9 + y / 17), 128 + 100 * np.cos(x / 23), 128 + 90 * np.sin(y / 15)], -1)
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


def drawing(width: int = 40, height: int = 30, mode: str = "RGBA") -> Image.Image:
    """Black behind a full range of alpha: clear at the left, opaque at the right."""
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    image = Image.new(mode[:-1], (width, height), 0)
    image.putalpha(Image.fromarray(alpha))
    return image


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: npt.NDArray[Any], colour: int, *extra: bytes, depth: int | None = None, after: bytes = b"") -> bytes:
    """A PNG of raw rows; `extra` chunks before the pixels, `after` behind their last byte, within the stream."""
    height, width = pixels.shape[:2]
    size = depth or 8 * pixels.dtype.itemsize
    big = pixels.astype(">u2") if size == 16 else pixels
    raw = b"".join(b"\0" + row.tobytes() for row in big)
    header = struct.pack(">IIBBBBB", width * 8 // size if size < 8 else width, height, size, colour, 0, 0, 0)
    body = zlib.compress(raw + after)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def shown(data: bytes, **limits: Any) -> npt.NDArray[np.int64]:
    """The whole picture as a model sees it."""
    allowed = DecodeLimits(**limits)
    header = inspect(data, allowed)
    pixels = whole(data, allowed, 1 << 14, header)
    assert pixels.shape == (header.height, header.width, 3) and pixels.dtype == np.uint8
    return pixels.astype(np.int64)


def refusal(data: bytes, **limits: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, DecodeLimits(**limits), 32)
    assert caught.value.reason in REASONS
    return caught.value.reason


# --- alpha -------------------------------------------------------------------------------------------------------

ALPHA = {
    "png": encoded(drawing(), "PNG"),
    "png of grey": encoded(drawing(mode="LA"), "PNG"),
    "png of a palette": encoded(drawing().quantize(16), "PNG"),
    "webp": encoded(drawing(), "WEBP", quality=100),
    "lossless webp": encoded(drawing(), "WEBP", lossless=True, exact=True),
    "avif": encoded(drawing(), "AVIF", quality=100),
    "tiff": encoded(drawing(), "TIFF"),
    "compressed tiff": encoded(drawing(), "TIFF", compression="tiff_lzw"),
    "tiff of grey": encoded(drawing(mode="LA"), "TIFF"),
}


@pytest.mark.parametrize("name", ALPHA)
def test_a_black_drawing_on_transparent_ground_is_seen_on_white(name: str) -> None:
    data = ALPHA[name]
    ramp = 255 - np.linspace(0, 255, 40)
    near = 20 if "palette" in name else 3
    assert np.abs(shown(data)[15, :, 0] - ramp).max() <= near
    assert np.abs(shown(data)[15, :, 1] - ramp).max() <= near
    assert shown(data, background="black").max() <= near
    assert shown(data, background="drop_alpha").max() <= near


def test_half_transparent_colours_mix_with_the_ground() -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 128))
    for fmt, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 100})):
        data = encoded(image, fmt, **options)
        assert np.abs(shown(data)[4, 4] - [227, 177, 127]).max() <= 2, fmt
        assert np.abs(shown(data, background="black")[4, 4] - [100, 50, 0]).max() <= 2, fmt
        assert np.abs(shown(data, background="drop_alpha")[4, 4] - [200, 100, 0]).max() <= 2, fmt


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


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_gif_with_a_transparent_colour(interlace: int) -> None:
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (5, 0, 20, 10))
    data = encoded(image, "GIF", transparency=0, interlace=interlace)
    assert shown(data)[3, 2].tolist() == [255, 255, 255] and shown(data)[3, 9].tolist() == [10, 200, 30]
    assert shown(data, background="drop_alpha")[3, 2].tolist() == [0, 0, 0]


def test_transparent_drawings_look_different_to_a_hash() -> None:
    from curation.scorers.phash import VIEW, phash

    shapes = [Image.new("RGBA", (64, 64), (0, 0, 0, 0)) for _ in range(2)]
    shapes[0].paste((0, 0, 0, 255), (8, 8, 30, 50))
    shapes[1].paste((0, 0, 0, 255), (20, 30, 60, 40))
    seen = [decode(encoded(shape, "PNG"), LIMITS, VIEW.size, VIEW.mode) for shape in shapes]
    one, other = phash(np.stack(seen)).tolist()
    assert (one ^ other).bit_count() > 10 if one >= 0 <= other else one != other


# --- orientation -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_always_turned_as_pillow_does(orientation: int) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    data = encoded(picture(40, 24), "TIFF", tiffinfo=tags)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(shown(data), expected) and np.array_equal(shown(data, auto_orient=True), expected)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(30), b"x" * 50]
)
def test_damaged_exif_is_no_damage(exif: bytes) -> None:
    for fmt in ("JPEG", "WEBP"):
        data = encoded(picture(40, 24), fmt, exif=b"Exif\0\0" + exif)
        assert np.array_equal(shown(data, auto_orient=True), shown(data))


# --- other formats -----------------------------------------------------------------------------------------------

_GREY16 = Image.fromarray((np.arange(40 * 24, dtype=np.uint16) * 60).reshape(24, 40))
OTHERS = {
    "gif": encoded(picture(40, 24).quantize(64), "GIF"),
    "gif of grey": encoded(picture(40, 24).convert("L"), "GIF"),
    "avif": encoded(picture(40, 24), "AVIF", quality=100),
    "bmp": encoded(picture(40, 24), "BMP"),
    "bmp of a palette": encoded(picture(40, 24).quantize(16), "BMP"),
    "bmp of a bit": encoded(picture(40, 24).convert("1"), "BMP"),
    **{f"tiff of {mode}": encoded(picture(40, 24).convert(mode), "TIFF") for mode in ("RGB", "L", "1", "CMYK", "P")},
    **{
        f"tiff by {name}": encoded(picture(40, 24), "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate")
    },
    "tiff by fax": encoded(picture(40, 24).convert("1"), "TIFF", compression="group4"),
}


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
    data = encoded(_GREY16, "TIFF")
    assert np.array_equal(shown(data)[..., 0], np.asarray(_GREY16) >> 8)
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


# --- work ---------------------------------------------------------------------------------------------------------


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


def test_scans_of_a_large_jpeg_are_few() -> None:
    data = encoded(picture(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert refusal(data[:-2] + scan * 30 + data[-2:], max_pixels=64 * 64) == "image_too_many_scans"
    assert shown(data, max_pixels=64 * 64).shape == (64, 64, 3)


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
    left = image_exif.directory(image_others.without_directories(image_exif.directory(data)))
    assert 34665 in image_exif.directory(data).entries and 34665 not in left.entries


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


def test_exif_is_not_looked_for_endlessly() -> None:
    data = encoded(picture(40, 24), "JPEG")
    padded = data[:2] + b"\xff" * 500_000 + data[2:]
    assert image_exif.orientation(padded, "jpeg") == 1
    assert np.array_equal(shown(padded, auto_orient=True), shown(data))


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
