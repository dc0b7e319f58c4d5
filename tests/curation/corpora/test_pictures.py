"""Drawings become pictures: the size and format of their style, on its ground."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.pictures import SIZES, DrawingStyle, look, render

pytest.importorskip("resvg_py", reason="needs the extra `demo`")
SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><path fill="currentColor" d="M0 0h10v10H0z"/></svg>'
)


def drawing(key: str = "x-1", kind: str = "icon") -> Drawing:
    return Drawing(key=key, kind=kind, pack="x", name="a square", svg=SQUARE, licence="MIT", origin="here")


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_ink_and_ground_are_those_of_the_style(extension: str) -> None:
    style = DrawingStyle("#d32f2f", "red", "#ffffff", "white", 64, extension, 97)
    data, width, height = render(drawing(), style)
    image = Image.open(io.BytesIO(data))
    assert image.format == {"png": "PNG", "jpg": "JPEG"}[extension]
    assert image.size == (width, height) and min(width, height) == 64 and width == 2 * height
    pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels[height // 2, width // 4] - (0xD3, 0x2F, 0x2F)).max() < 8
    assert np.abs(pixels[height // 2, -width // 8] - 255).max() < 8


def test_a_drawing_looks_the_same_in_every_build() -> None:
    styles = {look(drawing(), SeededChoices(0, "x-1")) for _ in range(3)}
    assert len(styles) == 1


def test_styles_vary_and_ink_shows_on_its_ground() -> None:
    styles = [look(drawing(f"x-{n}"), SeededChoices(0, f"x-{n}")) for n in range(400)]
    assert {style.size for style in styles} <= set(SIZES)
    assert {style.extension for style in styles} == {"png", "jpg"}
    assert 0.3 < np.mean([style.extension == "jpg" for style in styles]) < 0.5
    assert all(style.ink != style.ground for style in styles)
    assert len({(style.ink, style.ground) for style in styles}) > 20
