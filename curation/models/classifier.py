"""A classifier of pictures: the image tower of an architecture with a linear head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from curation.models.architecture import build_model, model_config


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
