"""The hash of a picture without features."""

from __future__ import annotations

import numpy as np

from curation.core.hashes import BLANK
from curation.scorers.phash import phash


def test_a_blank_picture_has_it_and_a_drawing_has_not() -> None:
    """Filters take it for no sign that two pictures are alike, so nothing else may have it."""
    white = np.full((32, 32, 3), 255, np.uint8)
    drawing = white.copy()
    drawing[8:20, 4:12] = 0
    assert phash(np.stack([white, drawing])).tolist()[0] == BLANK != int(phash(drawing[None])[0])
