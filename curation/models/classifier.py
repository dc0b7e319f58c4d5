"""A classifier of pictures: the image tower of an architecture, or one of patches, with a linear head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from curation.models.architecture import build_for_inference, build_model, model_config
from curation.models.patch_config import PATCH_MODELS, PatchConfig
from curation.models.patch_tower import PatchTower


class Classifier(nn.Module):
    """An image tower and a linear head: pixels float `[N, 3, S, S]` to logits `[N, classes]`.

    build: makes the architecture, with random weights or uninitialised ones (`build_for_inference`).
    """

    def __init__(self, model: str, classes: int, build: Callable[[str], nn.Module] = build_model) -> None:
        super().__init__()
        clip: Any = build(model)
        self.visual = clip.visual
        self.head = nn.Linear(int(model_config(model)["embed_dim"]), classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.visual(pixels))
        return logits


class PatchClassifier(nn.Module):
    """A tower of patches and a linear head, both uninitialised: pixels to logits as `Classifier`."""

    def __init__(self, config: PatchConfig, classes: int) -> None:
        super().__init__()
        self.visual = PatchTower(config)
        self.head = nn.Linear(config.width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.visual(pixels))
        return logits


def classifier_for_inference(model: str, classes: int) -> Classifier | PatchClassifier:
    """Return a classifier without weights, for a state dict to replace. Raises `UnknownNameError`."""
    if model in PATCH_MODELS:
        return PatchClassifier(PATCH_MODELS[model], classes)
    return Classifier(model, classes, build_for_inference)
