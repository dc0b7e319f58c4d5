"""A drawing as PNG or JPEG: seeded choices pick colours, size and encoding, and resvg renders at the final size.

resvg takes 1-1.5 ms of a core for 64 px and 3-4 ms for 128 px, most of it for PNG encoding; a JPEG takes 0.3 ms more,
because the PNG is decoded and encoded again. Colour and ground vary within every pack, so that neither identifies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curation.corpora.drawing import Drawing, SeededChoices

SIZES = {64: 0.44, 72: 0.20, 96: 0.20, 128: 0.12, 160: 0.03, 256: 0.01}  # the shorter side, in pixels
JPEG_SHARE = 0.4
QUALITIES = (50, 65, 75, 85, 92, 97)
INKS = {
    "red": "#d32f2f",
    "blue": "#1565c0",
    "green": "#2e7d32",
    "purple": "#6a1b9a",
    "orange": "#e65100",
    "brown": "#5d4037",
    "teal": "#00796b",
    "pink": "#c2185b",
    "gray": "#616161",
    "navy": "#1a237e",
}
PALE = {
    "light yellow": "#fff9c4",
    "light blue": "#e3f2fd",
    "light green": "#e8f5e9",
    "light pink": "#fce4ec",
    "light gray": "#eeeeee",
    "cream": "#fdf6e3",
}
DARK = {
    "black": "#101010",
    "dark blue": "#0d1b3e",
    "dark green": "#0f2e1d",
    "dark gray": "#333333",
    "dark red": "#4a0e0e",
}
WHITE, BLACK = "#ffffff", "#000000"


@dataclass(frozen=True, slots=True)
class DrawingStyle:
    """How a drawing is rendered. Names of colours are for captions; an emoji has its own ink: `ink_name` is empty."""

    ink: str
    ink_name: str
    ground: str
    ground_name: str
    size: int
    extension: str
    quality: int  # of a JPEG


def look(drawing: Drawing, dice: SeededChoices) -> DrawingStyle:
    """Rolled by name: the same drawing looks the same in every build with this seed."""
    ink_name, ink, ground_name, ground = _colours(drawing, dice)
    size = dice.pick("size", tuple(SIZES), tuple(SIZES.values()))
    extension = "jpg" if dice.roll("jpeg") < JPEG_SHARE else "png"
    return DrawingStyle(ink, ink_name, ground, ground_name, size, extension, dice.pick("quality", QUALITIES))


def render(drawing: Drawing, look: DrawingStyle) -> tuple[bytes, int, int]:
    """The encoded picture, its width and height. The shorter side is `look.size`: no picture is wider than 1:4.7."""
    import resvg_py

    svg = drawing.svg.read_text(encoding="utf-8") if isinstance(drawing.svg, Path) else drawing.svg
    png = resvg_py.svg_to_bytes(
        svg.replace("currentColor", look.ink), height=look.size, background=look.ground, skip_system_fonts=True
    )
    if look.extension == "png":
        return png, int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    return _jpeg(png, look.quality)


def _jpeg(png: bytes, quality: int) -> tuple[bytes, int, int]:
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes(), pixels.shape[1], pixels.shape[0]


def _colours(drawing: Drawing, dice: SeededChoices) -> tuple[str, str, str, str]:
    """Ink and ground, each a name and #rrggbb. Emoji have black outlines, so their grounds are white or pale."""
    roll = dice.roll("colours")
    pale = dice.pick("pale", tuple(PALE.items()))
    dark = dice.pick("dark", tuple(DARK.items()))
    if drawing.kind == "emoji":
        return ("", BLACK, "white", WHITE) if roll < 0.7 else ("", BLACK, *pale)
    if drawing.brand and roll < 0.5:
        return ("its brand color", drawing.brand, *(dark if _luminance(drawing.brand) > 0.6 else ("white", WHITE)))
    if roll < 0.65:
        return "black", BLACK, "white", WHITE
    if roll < 0.85:
        return *dice.pick("ink", tuple(INKS.items())), *(("white", WHITE) if roll < 0.75 else pale)
    return "white", WHITE, *dark


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
