"""Where there is writing in a picture: boxes that PP-OCRv6's small detector finds and its small reader can read.

The detector makes a map of text, each word or line painted shrunk so that neighbours stay apart; boxes around its parts
grow back (DB, 1911.08947, section 3; thresholds of the package `rapidocr`, whose boxes these are: tested).
It is made for pages, and takes a picture of one large thing for a letter: of 60 icons it boxed 60. So each box is read
(CTC, Graves et al. 2006), and counts where two characters or more are read with a mean probability of 0.5; that leaves
5 of these icons, some of which are lettered. A sign of a single letter is not found.

Cost on one CPU core: 15 ms a picture of 224 pixels, 28 at 320, 74 at 512, and about 15 ms to read a box.
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
STRIDE = 32  # sides of the detector's pictures are multiples of it
_TEXT = 0.3  # of the map: text or not
_SURE = 0.5  # mean of the map over a box, and of the characters' probabilities
_GROWTH = 1.6  # boxes grow by this x area / perimeter on all sides
_MIN_SIDE = 3  # pixels, before they grow
_MIN_CHARACTERS = 2
_LINE = 48  # pixels: height of what the reader reads
_LONGEST = 20  # times its height; a longer line is squeezed

#: uint8 RGB [N, S, S, 3] -> of each picture the boxes of its text, float32 [K, 4, 2]: corners, x and y in pixels
Finder = Callable[[Pixels], Iterator[Floats]]


def open_finder(device: torch.device) -> Finder:
    """Both networks on `device`. Raises `UserError` when the extra `ocr` is not installed."""
    detect, read = DETECTOR.open(_prepare, device), READER.open(_prepare, device)

    def find(pixels: Pixels) -> Iterator[Floats]:
        for picture, text in zip(pixels, detect(pixels), strict=True):
            yield np.array([box for box in boxes(text[0]) if _readable(picture, box, read)], np.float32)

    return find


def boxes(text: Floats) -> Floats:
    """The boxes [K, 4, 2] that a map of text [S, S] comes to."""
    bitmap = cv2.dilate((text > _TEXT).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        box = np.asarray(cv2.boxPoints((centre, (width, height), angle)), np.float32)
        if min(width, height) < _MIN_SIDE or _mean_over(text, box) < _SURE:
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
    """Whether enough characters are read, surely enough: the best class of each step, repeats and blanks (0) aside."""
    (steps,) = read(_line(picture, box)[None])
    best, sure = steps.argmax(1), steps.max(1)
    kept = (best > 0) & (best != np.concatenate([[0], best[:-1]]))
    return int(kept.sum()) >= _MIN_CHARACTERS and float(sure[kept].mean()) >= _SURE


def _line(picture: Pixels, box: Floats) -> Pixels:
    """What is in a box, upright, `_LINE` pixels high; a box that is a good deal higher than wide lies on its side."""
    by_x = box[box[:, 0].argsort(kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        side[side[:, 1].argsort(kind="stable")] for side in (by_x[:2], by_x[2:])
    )
    width, height = (max(1.0, float(np.linalg.norm(top_left - end))) for end in (top_right, bottom_left))
    flip = height >= 1.5 * width
    length = int(np.clip(np.ceil(_LINE * (height / width if flip else width / height)), _LINE, _LONGEST * _LINE))
    target = np.array([[0, 0], [length, 0], [length, _LINE], [0, _LINE]], np.float32)
    corners = np.array([top_left, top_right, bottom_right, bottom_left], np.float32)
    if flip:
        corners = np.roll(corners, -1, axis=0)
    turn = cv2.getPerspectiveTransform(corners, target)
    flags, edge = cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    return cv2.warpPerspective(picture, turn, (length, _LINE), flags=flags, borderMode=edge).astype(
        np.uint8, copy=False
    )


def _prepare(pixels: Pixels) -> Floats:
    """From -1 to 1, blue first, [N, 3, height, width]."""
    return np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1
