"""Classifiers of patches by folds: features once for all pictures of a run, then one linear head a fold.

The tower reads the pixels of all pictures, those without a label and those of the held-out fold among them, and no
label; a head reads the labels of the other folds alone. `steps`, `batch`, `lr` and their like have no effect.
Cost: a pass over all pictures a run, then 1 CPU second a fold; features take 6.4 kB a picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.models.batches import BUDGET
from curation.models.classifier import PatchClassifier
from curation.models.patch_config import PatchConfig
from curation.models.patch_tower import PatchTower, fit_tower
from curation.models.ridge_head import ridge_head
from curation.models.towers import PixelNormaliser

Array = np.ndarray[Any, Any]
PASS = 1024  # pictures whose pixels are floats at once


def most_pictures(config: PatchConfig) -> int:
    """Return the number of pictures whose features fit into the budget of memory."""
    return BUDGET // (4 * config.width)


class PatchFolds:
    """Pictures in memory, uint8 [N, S, S, 3], and the classifiers that are fitted to them."""

    def __init__(self, config: PatchConfig, pixels: Array, seed: int, device: torch.device) -> None:
        self._config, self._pixels, self._seed, self._device = config, pixels, seed, device
        self._features = lru_cache(maxsize=1)(self._compute)

    def fit(self, run: int, rows: Array, targets: Array, classes: int) -> tuple[dict[str, Tensor], float]:
        """Return the weights of a classifier fitted to some pictures and their classes, and its loss in nats.

        The loss is that of pictures left out of the fit, one at a time.
        """
        tower, features = self._features(run)
        head = ridge_head(features[torch.from_numpy(rows)], torch.from_numpy(targets), classes)
        module = PatchClassifier(self._config, classes)
        module.visual.load_state_dict(tower.state_dict())
        module.head.weight.data, module.head.bias.data = head.weight, head.bias
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}, head.loss

    def guess(self, run: int, rows: Array, weights: dict[str, Tensor]) -> Array:
        """Return the most likely class of some pictures, int64 [n]."""
        _, features = self._features(run)
        logits = features[torch.from_numpy(rows)] @ weights["head.weight"].T + weights["head.bias"]
        found: Array = logits.argmax(dim=1).numpy()
        return found

    def _compute(self, run: int) -> tuple[PatchTower, Tensor]:
        """Fit the tower of a run, and return it with the features of all pictures."""
        tower = fit_tower(self._config, self._pixels, self._seed + run)
        on_device, normalise = tower.to(self._device), PixelNormaliser(self._config.preprocess).to(self._device)
        with torch.inference_mode():
            found = [
                on_device(normalise(torch.from_numpy(self._pixels[start : start + PASS]).to(self._device))).cpu()
                for start in range(0, len(self._pixels), PASS)
            ]
        return tower.cpu(), torch.cat(found)
