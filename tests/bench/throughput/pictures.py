"""Pictures of the bench's corpora: real artwork over grounds with the statistics of photographs, as JPEG or PNG.

A picture is a function of (corpus, number) and of the pinned packages alone. A ground is noise whose power falls with
the square of the frequency, as in photographs (Field 1987), with a sensor's noise on top: a JPEG of it takes as many
bits as one of a photograph, 1.5 to 2 bits a pixel at quality 90. Or it is a crop of a photograph of the caller's.
Cost: about 20 ms of a core for 640 px, 1.5 ms for a 64 px icon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIZES = ((512, 512), (512, 683), (683, 512), (640, 640), (768, 576), (576, 768), (768, 768))  # height, width
SMALL_SIZES = ((224, 224),)
QUALITY = 90
SCENES = ("on the table", "by the window", "in the garden", "under a grey sky", "beside the road", "before a wall",
          "at dawn", "in the rain", "after the storm", "near the river", "in the old town", "on a boat")  # fmt: skip
VIEWS = ("a photo of", "a close view of", "a picture that shows", "someone left", "here is", "we found", "look at")

Pixels = npt.NDArray[np.uint8]


def picture(number: int, sizes: Sequence[tuple[int, int]], photographs: Sequence[Path] = ()) -> tuple[bytes, str]:
    """Return the JPEG and the caption of one picture of a drawing over a ground. `sizes`: height, width."""
    import simplejpeg

    rng = np.random.default_rng([20_261_130, number])
    height, width = sizes[rng.integers(len(sizes))]
    photograph = photographs[rng.integers(len(photographs))] if photographs else None
    pixels = crop(photograph, height, width, rng) if photograph else ground(height, width, rng)
    drawings = _drawings()
    drawing = drawings[rng.integers(len(drawings))]
    side = int(min(height, width) * rng.uniform(0.4, 0.8))
    paste(pixels, _rendered(drawing, side), rng)
    view, scene = VIEWS[rng.integers(len(VIEWS))], SCENES[rng.integers(len(SCENES))]
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), QUALITY, "RGB", "420")
    return data, f"{view} {drawing.name} {scene}"


def icon(number: int) -> tuple[bytes, str]:
    """Return the PNG and the caption of one icon of the demo's packages at 64 px. Beyond the last, colours vary."""
    from curation.corpora.captions import caption
    from curation.corpora.drawing import SeededChoices
    from curation.corpora.pictures import look, render

    drawings = _icons()
    turn, place = divmod(number, len(drawings))
    drawing = drawings[place]
    dice = SeededChoices(turn, drawing.key)
    style = replace(look(drawing, dice), size=64, extension="png")
    return render(drawing, style)[0], caption(drawing, style, dice)


def ground(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return RGB noise, uint8 [height, width, 3], with a power spectrum of 1/f^2, and a sensor's noise on top."""
    octaves = 7
    shape = (-(-height >> octaves) + 1, -(-width >> octaves) + 1)
    field = rng.normal(0, 1, (*shape, 3)).astype(np.float32)
    for octave in range(1, octaves + 1):
        field = cv2.resize(field, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        if octave < octaves:
            grey = rng.standard_normal((*field.shape[:2], 1), np.float32)
            field += 0.5**octave * (0.8 * grey + 0.2)
    field = field[:height, :width] * rng.uniform(25, 50) + rng.uniform(70, 180, 3).astype(np.float32)
    noise = rng.standard_normal((height, width), np.float32) * rng.uniform(2.0, 5.0)
    return np.clip(field + noise[:, :, None], 0, 255).astype(np.uint8)


def crop(path: Path, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return a random crop of a photograph, enlarged first where it is smaller than the crop."""
    pixels: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ValueError(f"{path} is no image that OpenCV reads; remove it from the folder of --pictures")
    scale = max(height / pixels.shape[0], width / pixels.shape[1]) * rng.uniform(1.0, 1.3)
    if scale > 1 or scale < 0.5:
        sides = (max(width, int(pixels.shape[1] * scale) + 1), max(height, int(pixels.shape[0] * scale) + 1))
        pixels = cv2.resize(pixels, sides, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    top, left = (int(rng.integers(n + 1)) for n in (pixels.shape[0] - height, pixels.shape[1] - width))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def paste(pixels: Pixels, drawing: Pixels, rng: np.random.Generator) -> None:
    """Blend a drawing, RGBA, into `pixels` at a random place."""
    height, width = (min(a, b) for a, b in zip(drawing.shape[:2], pixels.shape[:2], strict=True))
    top, left = (int(rng.integers(n + 1)) for n in (pixels.shape[0] - height, pixels.shape[1] - width))
    part = pixels[top : top + height, left : left + width]
    alpha = drawing[:height, :width, 3:].astype(np.float32) / 255
    part[:] = (part * (1 - alpha) + drawing[:height, :width, :3] * alpha).astype(np.uint8)


def _rendered(drawing: Any, side: int) -> Pixels:
    import resvg_py

    png = resvg_py.svg_to_bytes(drawing.svg.read_text(encoding="utf-8"), height=side, skip_system_fonts=True)
    pixels: Any = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA).astype(np.uint8, copy=False)


@lru_cache(maxsize=1)
def _drawings() -> list[Any]:
    """OpenMoji's drawings in English: about 4,400."""
    from curation.corpora.openmoji import openmoji

    return [drawing for drawing in openmoji(0) if drawing.language == "en"]


@lru_cache(maxsize=1)
def _icons() -> list[Any]:
    from curation.corpora.openmoji_icons import catalogue

    return catalogue(0)
