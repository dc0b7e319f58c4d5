"""The picture of a snapshot: wide pictures keep their place, and letters that the font lacks become question marks."""

from __future__ import annotations

import numpy as np

from curation.shards.images import Pixels
from jobs.pages import gallery


def test_a_wide_picture_is_centred_on_a_white_square() -> None:
    wide: Pixels = np.zeros((2, 6, 3), np.uint8)
    square = gallery._square(wide)
    assert square.shape == (6, 6, 3)
    assert (square[2:4] == 0).all() and (square[:2] == 255).all() and (square[4:] == 255).all()
    assert gallery._square(wide[:, :2]).shape == (2, 2, 3)


def test_letters_that_the_font_has() -> None:
    assert {ord(letter) for letter in "aéжλ"} <= gallery._drawable()
    assert not {ord(letter) for letter in "猫🐈"} & gallery._drawable()
