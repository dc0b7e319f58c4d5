"""Pictures at the model's own size, or at a smaller one that makes scoring cheap (Flexi-JEST).

Source: Flexi-JEST, 2406.17711, section 2.3; interpolated positions: FlexiViT, 2212.08013.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from curation.learners.training import Training
from curation.models.architecture import preprocess_for
from curation.models.batches import TrainingBatch
from curation.models.towers import PixelNormaliser

Tower = Callable[[Tensor], Tensor]  # float `[N, 3, S, S]` to features `[N, D]`


class TrainingView(NamedTuple):
    """A batch, or a part of one, with `small`, bool `[N]`: the pictures that are trained on at the scoring size."""

    pixels: Tensor
    targets: Tensor
    small: Tensor


class PictureSizes:
    """The sizes at which a learner's image tower sees pictures. module: the model, on `device`."""

    def __init__(self, model: str, module: nn.Module, training: Training, device: torch.device) -> None:
        self.module, self.training = module, training
        self._side = preprocess_for(model).size
        self._normaliser = PixelNormaliser(preprocess_for(model)).to(device)

    def mark_reduced(self, batch: TrainingBatch) -> TrainingView:
        """Mark the samples that are reduced to the scoring size: evenly spaced, so that any part has its share."""
        share = self.training.reduced if self.training.scoring_size else 0.0
        places = torch.arange(len(batch.pixels) + 1) * share
        return TrainingView(*batch, places[1:].floor() > places[:-1].floor())

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert uint8 `[N, S, S, 3]` of any side to float `[N, 3, S', S']` of this model's side."""
        found: Tensor = self._normaliser(pixels)
        if found.shape[-1] == self._side:
            return found
        return interpolate(found, (self._side, self._side), mode="bilinear", antialias=True)

    def training_features(self, pixels: Tensor, small: Tensor, tower: Tower) -> Tensor:
        """Return the tower's features `[N, D]` in training; those of the `small` samples at the scoring size."""
        if not self.training.reduced or not small.any():
            return tower(self.normalise(pixels))
        reduced = at_size(self.module, tower, self.normalise(pixels[small]), self.training.scoring_size)
        if small.all():
            return reduced
        whole = tower(self.normalise(pixels[~small]))
        places = torch.cat([small.nonzero(), (~small).nonzero()]).squeeze(1)
        return torch.cat([reduced, whole])[places.argsort().to(whole.device)]

    def scoring_features(self, pixels: Tensor, tower: Tower) -> Tensor:
        """Return the tower's features `[N, D]` for scoring, all at the scoring size."""
        size = self.training.scoring_size
        return at_size(self.module, tower, self.normalise(pixels), size) if size else tower(self.normalise(pixels))


def at_size(module: nn.Module, tower: Tower, pixels: Tensor, size: int) -> Tensor:
    """Return a vision transformer's features of pictures scaled to `size`: fewer patches, interpolated positions.

    module: a model whose `visual` is open_clip's tower with learned positions.
    tower: float `[N, 3, size, size]` to features `[N, D]`.
    pixels: normalised, float `[N, 3, S, S]`.
    size: side in pixels; half the side leaves a quarter of the patches and about a quarter of the FLOPs.
    Raises `ValueError` for another tower, or for a size that is no multiple of its patches.
    """
    visual: Any = module.visual
    positions = getattr(visual, "positional_embedding", None)
    if not isinstance(positions, nn.Parameter) or positions.ndim != 2:
        raise ValueError("scoring at another size needs a vision transformer with learned positions")
    patch = visual.conv1.kernel_size[0]
    if size % patch:
        raise ValueError(f"a scoring size of {size} is no multiple of the patches' {patch}")
    side, grid = math.isqrt(len(positions) - 1), size // patch
    known = positions[1:].T.reshape(1, -1, side, side)
    fewer = interpolate(known, (grid, grid), mode="bilinear", antialias=True).flatten(2)[0].T
    small = interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    # Replaced in place: a parameter that is removed and added again moves to the end, and the norm of the gradients
    # would be summed in another order.
    visual._parameters["positional_embedding"] = torch.cat([positions[:1], fewer])
    try:
        return tower(small)
    finally:
        visual._parameters["positional_embedding"] = positions
