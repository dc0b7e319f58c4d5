"""Scorer `image_stats`: entropy, blankness, aspect ratio and sharpness."""

from __future__ import annotations

import numpy as np
import pytest
from scorers_given import CPU, batch, make


def test_image_stats() -> None:
    scorer = make("image_stats", {"size": 32})
    sample = batch([0, 1, 2], scorer)
    (pixels,) = sample.views.values()
    pixels[0] = 77
    pixels[1] = np.where(np.indices((32, 32)).sum(0)[..., None] % 2, 255, 0)
    flat, board, noise = scorer.load(CPU)(sample).to_pylist()  # type: ignore[union-attr]
    assert flat == {"entropy": 0, "blank": 1, "aspect": 2, "sharpness": 0} and str(flat["entropy"]) == "0.0"
    assert board["entropy"] == 1 and board["blank"] == 0.5 and board["sharpness"] > noise["sharpness"] > 0
    assert 5 < noise["entropy"] < 8 and noise["aspect"] == pytest.approx(120 / 62)
