"""Text in pictures: found, read, painted over; and nothing else touched."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from scorers_given import CPU, Fields, make

from curation.models.text_regions import boxes, open_finder
from curation.scorers import Batch
from curation.scorers.text_masked_clip_score import mask
from curation.shards.images import Pixels, fit
from curation.shards.unit_reader import view_column

SIDE = 224
WORDS = ("summer sale", "big pizza", "hotel music", "winter coats")


def background(seed: int) -> Pixels:
    """Smooth, of a few colours, without anything that could be a letter."""
    corners = np.random.default_rng(seed).integers(60, 200, (2, 2, 3), dtype=np.uint8)
    return cv2.resize(corners, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def written(seed: int, words: str) -> tuple[Pixels, Any]:
    """A picture with words in it, and the pixels that they changed."""
    plain = background(seed)
    picture = Image.fromarray(plain)
    place = tuple(np.random.default_rng(seed).integers(10, 80, 2).tolist())
    ImageDraw.Draw(picture).text(place, words, font=ImageFont.load_default(20), fill=(255, 255, 255))
    pixels = np.array(picture)
    return pixels, (pixels != plain).any(2)


@pytest.mark.slow
def test_words_are_found_whichever_way_they_run_and_nothing_else() -> None:
    pictures, inked = zip(*(written(seed, words) for seed, words in enumerate(WORDS)), strict=True)
    find = open_finder(CPU)
    for turns in (0, 1):
        turned = np.stack([np.rot90(picture, turns) for picture in pictures])
        for found, ink in zip(find(turned), inked, strict=True):
            covered = cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), list(found.round().astype(np.int32)), (1,)) > 0
            assert covered[np.rot90(ink, turns)].mean() > 0.99 and covered.mean() < 0.25
    plain = np.stack([background(seed) for seed in range(8)])
    assert [len(found) for found in find(plain)] == [0] * 8


@pytest.mark.slow
def test_boxes_are_those_of_the_package() -> None:
    """On maps with slanted bars of high and low confidence, to two pixels: the package rounds to integers."""
    from rapidocr.ch_ppocr_det.utils import DBPostProcess

    package = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    generator = np.random.default_rng(0)
    for _ in range(20):
        text = generator.random((160, 160), np.float32) * 0.2
        for place in ((40, 40), (110, 40), (60, 110)):
            size, angle = generator.uniform((30, 6), (60, 20)).tolist(), generator.uniform(-60, 60)
            bar = cv2.boxPoints((place, size, angle)).astype(np.int32)
            cv2.fillPoly(text, [bar], float(generator.choice([0.4, 0.9])))
        wanted, _ = package(text[None, None], (160, 160))
        found = boxes(text)
        assert len(found) == len(wanted)
        for one, other in ((found, wanted), (wanted, found)):
            assert not (drawn(one) & ~drawn(other, margin=2)).any()


def drawn(some: Any, margin: int = 0) -> Any:
    """The pixels that boxes cover, and those around them."""
    found = np.zeros((160, 160), np.uint8)
    for box in some:
        cv2.fillPoly(found, [np.round(box).astype(np.int32)], (1,))
    return cv2.dilate(found, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0


def test_a_region_gets_the_mean_of_the_pixels_that_touch_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    regions = [(5, 5, 20, 9), (25, 12, 33, 30), (0, 30, 10, 39)]  # left, top, right, bottom; the last at an edge
    corners = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in regions]
    found = mask(pixels, np.array(corners, np.float32))
    inside = np.zeros((40, 40), bool)
    for x0, y0, x1, y1 in regions:
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    assert (found[~inside] == pixels[~inside]).all()
    for x0, y0, x1, y1 in regions:
        around = [pixels[y, x] for y in range(max(0, y0 - 1), min(40, y1 + 2))
                  for x in range(max(0, x0 - 1), min(40, x1 + 2)) if not inside[y, x]]  # fmt: skip
        assert np.abs(found[y0 : y1 + 1, x0 : x1 + 1] - np.mean(around, 0)).max() <= 0.5
    everything = np.array([[(0, 0), (39, 0), (39, 39), (0, 39)]], np.float32)
    assert np.abs(mask(pixels, everything) - pixels.mean((0, 1))).max() <= 0.5


@pytest.mark.slow
def test_the_score_is_that_of_the_masked_picture(given: Fields) -> None:
    """It changes the score of pictures with text; without text it is the CLIP score, bit for bit, in any batch."""
    scorer = make("text_masked_clip_score", {**given["clip_score"], "size": SIDE})
    clip = make("clip_score", given["clip_score"]).load(CPU)
    seen, large = scorer.views()
    pictures = [written(seed, words)[0] for seed, words in enumerate(WORDS)] + [background(9), background(8)]
    captions = [*WORDS, "nothing", "nothing"]

    def sample(rows: list[int], change: Any = lambda row, pixels: pixels) -> Batch:
        small = [change(row, fit(pictures[row], seen.size, seen.mode)) for row in rows]
        views = {view_column(seen): np.stack(small), view_column(large): np.stack([pictures[row] for row in rows])}
        return Batch([captions[row] for row in rows], views)

    found = [box * (seen.size / SIDE) for box in open_finder(CPU)(np.stack(pictures))]
    score, rows = scorer.load(CPU), list(range(6))
    values = score(sample(rows))
    assert torch.equal(values, clip(sample(rows, lambda row, pixels: mask(pixels, found[row]))))
    assert torch.equal(values[4:], clip(sample(rows))[4:]) and not torch.equal(values[:4], clip(sample(rows))[:4])
    assert torch.equal(values, torch.cat([score(sample([row])) for row in rows]))
    assert torch.equal(values.flip(0), score(sample(rows[::-1])))


@pytest.mark.parametrize("size", [0, 100, 2048])
def test_sizes(size: int, given: Fields) -> None:
    with pytest.raises(ValueError, match=f"size is {size} pixels"):
        make("text_masked_clip_score", {**given["clip_score"], "size": size})
