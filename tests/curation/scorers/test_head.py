"""Scorer `head`: layers on top of an embedding."""

from __future__ import annotations

import numpy as np
import pytest
from scorers_given import ROWS, Fields, seen


def test_head(given: Fields) -> None:
    found, image, _ = seen(given, "head")
    from safetensors.numpy import load_file

    layers = load_file(given["head"]["head"]["weights"])
    for row in ROWS:
        hidden = np.maximum(layers["0.weight"] @ image[row] + layers["0.bias"], 0)
        assert float(found[row]) == pytest.approx(float((layers["2.weight"] @ hidden).item()), abs=1e-4)
