"""Regions of text in an image: boxes that PP-OCRv6's small detector finds and its small reader can read.

The detector computes a map of text in which each word or line is shrunk, so that neighbours stay apart; the boxes
around connected parts of the map are grown back (DB, 1911.08947, section 3). Thresholds and boxes are those of the
package `rapidocr` (tested). The detector is made for pages and takes any single large object for a letter: it boxed 60
of 60 icons. Therefore each box is read (CTC, Graves et al. 2006), and counts where at least two characters are read
with a mean probability of 0.5: 5 of these icons remain, some of which contain letters. A single letter is not found.

Cost on one CPU core: 15 ms an image of 224 pixels, 28 ms at 320, 74 ms at 512, and about 15 ms to read a box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from curation.models.packaged import Floats, Network, PackagedFile
from curation.shards.images import Pixels

if TYPE_CHECKING:
    import torch

DETECTOR = PackagedFile(
    package="rapidocr",
    file="models/PP-OCRv6_det_small.onnx",
    sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    extra="ocr",
)
READER = PackagedFile(
    package="rapidocr",
    file="models/PP-OCRv6_rec_small.onnx",
    sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    extra="ocr",
)
STRIDE = 32  # sides of the detector's input are multiples of this
_TEXT = 0.3  # pixels of the map above this are text
_MIN_CONFIDENCE = 0.5  # least mean of the map over a box, and of the characters' probabilities
_GROWTH = 1.6  # boxes grow by this x area / perimeter on all sides
_MIN_SIDE = 3  # pixels, before growing
_MIN_CHARACTERS = 2
_LINE_HEIGHT = 48  # pixels: height of the reader's input
_MAX_ASPECT = 20  # width of the reader's input at most, in heights; a longer line is squeezed

#: uint8 RGB [N, S, S, 3] -> for each image the boxes of its text, float32 [K, 4, 2]: corners, x and y in pixels
Finder = Callable[[Pixels], Iterator[Floats]]


def open_finder(device: torch.device) -> Finder:
    """Load both networks onto `device` and return the finder. Raises `UserError` without the extra `ocr`."""
    detect, read = DETECTOR.open(_prepare, device), READER.open(_prepare, device)

    def find(pixels: Pixels) -> Iterator[Floats]:
        for picture, text in zip(pixels, detect(pixels), strict=True):
            yield np.array([box for box in boxes(text[0]) if _readable(picture, box, read)], np.float32)

    return find


def boxes(text: Floats) -> Floats:
    """Boxes, float32 [K, 4, 2], of the connected parts of a map of text, float32 [S, S] in [0, 1]."""
    bitmap = cv2.dilate((text > _TEXT).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        box = np.asarray(cv2.boxPoints((centre, (width, height), angle)), np.float32)
        if min(width, height) < _MIN_SIDE or _mean_over(text, box) < _MIN_CONFIDENCE:
            continue
        grown = _GROWTH * width * height / (width + height)  # on both sides together
        found.append(cv2.boxPoints((centre, (width + grown, height + grown), angle)))
    return np.array(found, np.float32).reshape(-1, 4, 2)


def _mean_over(text: Floats, box: Floats) -> float:
    left, top = np.maximum(np.floor(box.min(0)).astype(int), 0)
    right, bottom = np.ceil(box.max(0)).astype(int) + 1
    part = text[top:bottom, left:right]
    inside = cv2.fillPoly(np.zeros(part.shape, np.uint8), [(box - (left, top)).astype(np.int32)], (1,))
    return float(cv2.mean(part, inside)[0])


def _readable(picture: Pixels, box: Floats, read: Network) -> bool:
    """Whether the reader finds enough characters with enough confidence.

    A character is the best class of a step, without blanks (0) and repetitions.
    """
    (steps,) = read(_line(picture, box)[None])
    best, confidence = steps.argmax(1), steps.max(1)
    kept = (best > 0) & (best != np.concatenate([[0], best[:-1]]))
    return int(kept.sum()) >= _MIN_CHARACTERS and float(confidence[kept].mean()) >= _MIN_CONFIDENCE


def _line(picture: Pixels, box: Floats) -> Pixels:
    """Content of a box, upright and `_LINE_HEIGHT` pixels high; a box at least 1.5 times as high as wide is turned."""
    by_x = box[box[:, 0].argsort(kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        side[side[:, 1].argsort(kind="stable")] for side in (by_x[:2], by_x[2:])
    )
    width, height = (max(1.0, float(np.linalg.norm(top_left - end))) for end in (top_right, bottom_left))
    flip = height >= 1.5 * width
    aspect = np.clip(height / width if flip else width / height, 1, _MAX_ASPECT)
    length = int(np.ceil(_LINE_HEIGHT * aspect))
    target = np.array([[0, 0], [length, 0], [length, _LINE_HEIGHT], [0, _LINE_HEIGHT]], np.float32)
    corners = np.array([top_left, top_right, bottom_right, bottom_left], np.float32)
    if flip:
        corners = np.roll(corners, -1, axis=0)
    turn = cv2.getPerspectiveTransform(corners, target)
    flags, edge = cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    return cv2.warpPerspective(picture, turn, (length, _LINE_HEIGHT), flags=flags, borderMode=edge).astype(
        np.uint8, copy=False
    )


def _prepare(pixels: Pixels) -> Floats:
    """Convert RGB bytes [N, H, W, 3] to BGR floats from -1 to 1, [N, 3, H, W]."""
    return np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1
