"""Images from anywhere: limits before decode, no half pictures, and pixels close to PIL's."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from zlib import compress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures_given import chunk, encoded
from PIL import Image, ImageCms

from curation.core.errors import ImageError
from curation.shards.images import (
    IMAGE_CODE_VERSION,
    REASONS,
    DecodeLimits,
    ImageHeader,
    Mode,
    Preprocess,
    count_scans,
    decode,
    fit,
    inspect,
    whole,
)

LIMITS = DecodeLimits()


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(x / 9 + y / 17), 128 + 100 * np.cos(x / 23), 128 + 90 * np.sin(y / 15)], -1)
    noisy = waves + np.random.default_rng(0).normal(0, 4, waves.shape)
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    alpha = Image.fromarray((x * 255 // width).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode[:-1])
        image.putalpha(alpha)
        return image
    return image.convert(mode)


def by_pil(data: bytes) -> npt.NDArray[np.int64]:
    """On white, as browsers show it."""
    image = Image.open(io.BytesIO(data))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB")).astype(np.int64)


def png(
    width: int, height: int, depth: int, colour: int, raw: bytes, *, extra: bytes = b"", packed: bytes | None = None
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = compress(raw) if packed is None else packed
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refusal(data: bytes, limits: DecodeLimits = LIMITS, size: int = 32) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, limits, size)
    assert caught.value.reason in REASONS
    return caught.value.reason


# --- every kind of file decodes to PIL's pixels -----------------------------------------------------------------

KINDS = [("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
KINDS += [("JPEG", "RGB", {"subsampling": s, "progressive": p}) for s in (0, 1, 2) for p in (False, True)]
KINDS += [("JPEG", "L", {}), ("JPEG", "CMYK", {})]
KINDS += [("WEBP", "RGB", {}), ("WEBP", "RGBA", {}), ("WEBP", "RGBA", {"lossless": True})]


@pytest.mark.parametrize(("fmt", "mode", "options"), KINDS)
def test_kinds(fmt: str, mode: str, options: dict[str, object]) -> None:
    data = encoded(picture(48, 48, mode), fmt, **options)
    assert inspect(data, LIMITS) == ImageHeader(fmt.lower(), 48, 48)
    pixels = decode(data, LIMITS, 48)
    assert pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert np.abs(pixels - by_pil(data)).max() <= 1  # one level: the rounding of CMYK


def test_sixteen_bits() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 65536, (32, 32, 3), dtype=np.uint16)
    data = png(32, 32, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour))
    assert np.array_equal(decode(data, LIMITS, 32), by_pil(data))
    grey = colour[:, :, 0]
    data = png(32, 32, 16, 0, b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey))
    assert np.abs(decode(data, LIMITS, 32) - (grey[..., None] / 257)).max() <= 1  # scaled; PIL clips it to white


def test_orientation_and_profiles_change_no_pixel() -> None:
    image = picture(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees: ignored by us as by PIL's convert("RGB")
    for data in (
        encoded(image, "JPEG", exif=exif),
        encoded(image, "PNG", exif=exif),
        encoded(image, "WEBP", exif=exif),
        encoded(image, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
    ):
        assert np.array_equal(decode(data, LIMITS, 32), by_pil(data))


@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation(fmt: str) -> None:
    first = picture(32, 32)
    frames = [first.rotate(90), first.rotate(180)]
    data = encoded(first, fmt, save_all=True, append_images=frames, lossless=True)
    assert np.array_equal(decode(data, LIMITS, 32), np.asarray(first))
    for cut in range(0, len(data), 61):
        assert refusal(data[:cut]) in ("image_truncated", "image_empty")


def test_the_format_is_what_the_bytes_say() -> None:
    assert inspect(encoded(picture(8, 9), "JPEG"), LIMITS).format == "jpeg"
    for fmt in ("PPM", "ICO", "PCX", "JPEG2000"):
        assert refusal(encoded(picture(32, 32), fmt)) == "image_format"
    assert refusal(b"RIFF\x24\0\0\0WAVEfmt ") == "image_format"
    assert refusal(b"<svg/>") == "image_format"
    assert refusal(encoded(picture(8, 8), "PNG"), DecodeLimits(formats=("jpeg", "webp"))) == "image_format"


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_limits(fmt: str) -> None:
    data = encoded(picture(40, 30), fmt)
    assert refusal(b"") == "image_empty"
    assert refusal(data, DecodeLimits(max_bytes=len(data) - 1)) == "image_too_many_bytes"
    assert refusal(data, DecodeLimits(max_pixels=1199)) == "image_too_many_pixels"
    assert decode(data, DecodeLimits(max_bytes=len(data), max_pixels=1200), 30).shape == (30, 30, 3)


def test_bombs_cost_no_memory() -> None:
    jpeg = bytearray(encoded(picture(16, 16), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = b"\xfd\xe8\xfd\xe8"  # 65,000 x 65,000; libjpeg has a limit of 65,500 itself
    webp = bytearray(encoded(picture(16, 16), "WEBP", exif=b"Exif\0\0II*\0"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = b"\xff\xff\x01\xff\xff\x01"
    tracemalloc.start()
    for data in (png(60000, 60000, 1, 0, b""), bytes(jpeg), bytes(webp)):
        assert refusal(data) == "image_too_many_pixels"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("lie", [(15, 16), (17, 16), (400, 400)])
def test_headers_that_lie(lie: tuple[int, int]) -> None:
    webp = bytearray(encoded(picture(16, 16), "WEBP", exif=b"Exif\0\0II*\0"))
    webp[24:30] = struct.pack("<HBHB", lie[0] - 1, 0, lie[1] - 1, 0)
    assert refusal(bytes(webp)) == "image_corrupt"
    raw = b"".join(b"\0" + bytes(48) for _ in range(16))
    assert refusal(png(0, 16, 8, 2, raw)) == "image_corrupt"
    if lie[0] > 16:
        assert refusal(png(*lie, 8, 2, raw)) == "image_corrupt"


def test_a_jpeg_of_many_scans() -> None:
    data = encoded(picture(32, 32), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert refusal(data[:-2] + scan * 600 + data[-2:]) == "image_too_many_scans"


@given(st.lists(st.sampled_from([0xFF, 0xDA, 0]), min_size=2).map(bytes))
def test_scans_are_markers_at_even_and_odd_places(data: bytes) -> None:
    assert count_scans(data) == data.count(b"\xff\xda")


def test_a_strip_is_not_blown_up() -> None:
    tracemalloc.start()
    for width, height in ((1, 50_000), (50_000, 1)):
        assert decode(encoded(Image.new("RGB", (width, height), "red"), "PNG"), LIMITS, 64).shape == (64, 64, 3)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20  # resized whole, it would be 600 MB
    tracemalloc.stop()


# --- no half pictures -------------------------------------------------------------------------------------------

CUTS = [("PNG", "RGB", {}), ("PNG", "P", {}), ("JPEG", "RGB", {}), ("JPEG", "L", {}), ("JPEG", "CMYK", {})]
CUTS += [("JPEG", "RGB", {"progressive": True}), ("JPEG", "RGB", {"exif": b"Exif\0\0" + bytes(300)})]
CUTS += [("WEBP", "RGB", {}), ("WEBP", "RGBA", {}), ("WEBP", "RGB", {"lossless": True})]


@pytest.mark.parametrize(("fmt", "mode", "options"), CUTS)
@pytest.mark.parametrize("size", [12, 48])  # with DCT scaling and without
def test_no_cut_gives_a_picture(fmt: str, mode: str, options: dict[str, object], size: int) -> None:
    data = encoded(picture(48, 48, mode), fmt, **options)
    found = {refusal(data[:cut], size=size) for cut in range(1, len(data), 1 if len(data) < 2000 else 3)}
    found |= {refusal(data[:-1], size=size), refusal(data[:-2], size=size)}
    assert found <= ({"image_truncated", "image_corrupt"} if options.get("progressive") else {"image_truncated"})


def test_a_png_with_too_little_behind_valid_checksums() -> None:
    raw = b"".join(b"\0" + bytes(range(48)) for _ in range(16))
    packed = compress(raw)
    assert decode(png(16, 16, 8, 2, raw), LIMITS, 16).shape == (16, 16, 3)
    for data in (png(16, 16, 8, 2, raw[:-1]), png(16, 16, 8, 2, raw[:300]), png(16, 16, 8, 2, b"")):
        assert refusal(data) == "image_corrupt"
    for part in (packed[:-1], packed[:-4], packed[: len(packed) // 2], packed[:-4] + b"abcd", b""):
        assert refusal(png(16, 16, 8, 2, raw, packed=part)) == "image_corrupt"
    whole = png(16, 16, 8, 2, raw)
    assert refusal(whole[:33] + chunk(b"IEND", b"")) == "image_corrupt"
    for at in range(16, len(whole) - 4, 5):
        assert refusal(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]) in REASONS


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_a_webp_cut_with_its_sizes_made_to_fit(options: dict[str, object]) -> None:
    data = encoded(picture(48, 48), "WEBP", **options)
    for cut in range(40, len(data) - 8, 6):
        sized = b"RIFF" + struct.pack("<I", cut - 8) + data[8:16] + struct.pack("<I", cut - 20) + data[20:cut]
        assert refusal(sized) == "image_corrupt"


@pytest.mark.slow
@settings(max_examples=200)
@example(fmt="JPEG", seed=2535, flips=1)  # becomes 4:4:1
@given(fmt=st.sampled_from(["PNG", "JPEG", "WEBP"]), seed=st.integers(0, 1 << 30), flips=st.integers(1, 8))
def test_fuzz_raises_nothing_but_image_errors(fmt: str, seed: int, flips: int) -> None:
    rng = random.Random(seed)
    data = bytearray(encoded(picture(24, 20), fmt))
    for _ in range(flips):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        assert decode(bytes(data), DecodeLimits(max_pixels=10_000), 16).shape == (16, 16, 3)
    except ImageError as error:
        assert error.reason in REASONS


def test_the_decoders_keep_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    for fmt in ("PNG", "JPEG", "WEBP"):
        data = encoded(picture(24, 24), fmt)
        for cut in (20, 30, 40, len(data) - 3):
            refusal(data[:cut])
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# --- resizing ---------------------------------------------------------------------------------------------------


def by_open_clip(data: bytes, size: int, mode: Mode) -> npt.NDArray[np.int64]:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    target = size if mode == "shortest" else (size, size)
    transform = Compose([Resize(target, interpolation=InterpolationMode.BICUBIC), CenterCrop(size)])
    return np.asarray(transform(Image.open(io.BytesIO(data)).convert("RGB"))).astype(np.int64)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize(
    ("width", "height"), [(64, 64), (96, 64), (70, 201), (256, 255), (512, 384), (40, 30), (50, 150)]
)
@pytest.mark.parametrize(("fmt", "bound"), [("PNG", 1.5), ("JPEG", 2.0)])
def test_close_to_pils_antialiased_bicubic(mode: Mode, width: int, height: int, fmt: str, bound: float) -> None:
    data = encoded(picture(width, height), fmt, quality=90)
    pixels = decode(data, LIMITS, 64, mode)
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels - by_open_clip(data, 64, mode)).mean() < bound  # of 255 levels


def test_large_jpegs_are_decoded_small() -> None:
    data = encoded(picture(640, 480), "JPEG")
    header = inspect(data, LIMITS)
    assert 64 <= min(whole(data, LIMITS, 64, header).shape[:2]) <= 120
    assert whole(data, LIMITS, 300, header).shape == (480, 640, 3)


def test_fit_leaves_the_right_size_alone() -> None:
    pixels = np.asarray(picture(32, 32))
    assert np.array_equal(fit(pixels, 32, "shortest"), pixels) and np.array_equal(fit(pixels, 32, "squash"), pixels)


def test_many_threads_see_one_answer() -> None:
    data = [encoded(picture(60 + i, 50), fmt) for i in range(4) for fmt in ("PNG", "JPEG", "WEBP")]
    expected = [decode(item, LIMITS, 32) for item in data]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: decode(item, LIMITS, 32), data * 5))
    assert all(np.array_equal(a, b) for a, b in zip(expected * 5, found, strict=True))


def test_what_the_fingerprint_takes() -> None:
    preprocess = Preprocess(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert preprocess.mode == "shortest" and hash(preprocess) == hash(preprocess)
    assert IMAGE_CODE_VERSION == 2
