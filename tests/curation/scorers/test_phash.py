"""Scorer `phash`: the published perceptual hash, whatever the batch."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from curation.core.hashes import BLANK
from curation.scorers.phash import phash


def test_phash_is_that_of_imagehash() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    pixels[40:] = pixels[40:] // 8 * 8  # with ties
    for row, found in zip(pixels, phash(pixels), strict=True):
        bits = imagehash.phash(Image.fromarray(row)).hash.reshape(-1)
        assert int(found) == int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def test_phash_of_a_picture_that_was_resized_and_encoded_again() -> None:
    import cv2

    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (40, 6, 6, 3), dtype=np.uint8)
    pictures = [cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC) for picture in small]
    again = [
        cv2.imdecode(cv2.imencode(".jpg", cv2.resize(picture, (150, 150)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
        for picture in pictures
    ]
    views = [np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in some])
             for some in (pictures, again)]  # fmt: skip
    one, other = (phash(view).astype(np.uint64) for view in views)
    near = [bin(int(a ^ b)).count("1") for a, b in zip(one, other, strict=True)]
    far = [bin(int(a ^ b)).count("1") for a, b in zip(one, np.roll(other, 1), strict=True)]
    assert max(near) <= 8 < min(far)


def test_phash_does_not_depend_on_the_batch() -> None:
    """Mirrored, flat and tiny pictures lack frequencies: what is computed of those may be no rounding noise."""
    import cv2

    generator = np.random.default_rng(0)
    half = generator.integers(0, 255, (200, 32, 16, 3), dtype=np.uint8)
    mirrored = np.concatenate([half, half[:, :, ::-1]], axis=2)
    flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in range(100)])
    small = generator.integers(0, 255, (100, 2, 3, 3), dtype=np.uint8)
    tiny = np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_CUBIC) for picture in small])
    pixels = generator.permutation(np.concatenate([mirrored, flat, tiny]))
    whole = phash(pixels)
    for size in (1, 2, 7, 16, 256):
        parts = [phash(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        assert np.concatenate(parts).tolist() == whole.tolist()
    assert phash(pixels[::-1]).tolist() == whole[::-1].tolist()
    assert set(phash(flat).tolist()) == {BLANK}
    assert len(set(phash(mirrored).tolist())) == 200


def test_phash_of_a_picture_without_features_says_so_and_no_other_does() -> None:
    """Flat ones, with the noise of JPEG and of rounding too; the faintest drawing is no blank picture."""
    generator = np.random.default_rng(1)
    grey = generator.integers(0, 252, (200, 1, 1, 1))
    noisy = (grey + generator.integers(0, 4, (200, 32, 32, 1))).repeat(3, 3).astype(np.uint8)
    assert set(phash(noisy).tolist()) == {BLANK}
    drawings = np.full((200, 32, 32, 3), 255, np.uint8)
    for drawing, (row, column) in zip(drawings, generator.integers(0, 28, (200, 2)), strict=True):
        drawing[row : row + 4, column : column + 4] -= 20
    photographs = generator.integers(0, 255, (200, 32, 32, 3), dtype=np.uint8)
    found = phash(np.concatenate([drawings, 255 - drawings, photographs]))
    assert (found < 0).all(), "the mean of what is not black is its largest frequency"
