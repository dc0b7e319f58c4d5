"""Alpha and colour: transparent pictures are shown on the recipe's background."""

from __future__ import annotations

import numpy as np
import pytest
from pictures_given import LIMITS, drawing, encoded, shown
from PIL import Image

from curation.shards.images import decode

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


def test_transparent_drawings_look_different_to_a_hash() -> None:
    from curation.scorers.phash import VIEW, phash

    shapes = [Image.new("RGBA", (64, 64), (0, 0, 0, 0)) for _ in range(2)]
    shapes[0].paste((0, 0, 0, 255), (8, 8, 30, 50))
    shapes[1].paste((0, 0, 0, 255), (20, 30, 60, 40))
    seen = [decode(encoded(shape, "PNG"), LIMITS, VIEW.size, VIEW.mode) for shape in shapes]
    one, other = phash(np.stack(seen)).tolist()
    assert (one ^ other).bit_count() > 10 if one >= 0 <= other else one != other
