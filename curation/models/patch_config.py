"""The models of patches by name and their shapes; what a classifier of any model takes. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from curation.models.architecture import model_config, preprocess_for

if TYPE_CHECKING:
    from curation.shards.images import Preprocess

CODE = 1  # increase it with any change of features, of their fitting or of the head (`patch_tower`, `ridge_head`)


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """The shape of a tower: pictures of `size` pixels, patches of `patch` every `stride`, a grid of `grid` x `grid`."""

    size: int = 32
    patch: int = 6
    stride: int = 2
    patterns: int = 400
    grid: int = 2

    @property
    def width(self) -> int:
        """Number of features."""
        return self.patterns * self.grid**2

    @property
    def preprocess(self) -> Preprocess:
        """The input: pixels from 0 to 1."""
        from curation.shards.images import Preprocess

        return Preprocess(size=self.size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def to_json(self) -> dict[str, Any]:
        """Everything that determines the classifiers besides data and seed."""
        return {"kind": "patches", "code": CODE, **asdict(self)}


#: name -> configuration. These models classify pictures and read no captions.
PATCH_MODELS = {"proxy-patches": PatchConfig()}
ABOUT = {"proxy-patches": "patterns of patches under a linear head, for labels alone: no training steps"}


def classifier_preprocess(model: str) -> Preprocess:
    """Return the input of a classifier: of a model of patches, or of an image tower. Raises `UnknownNameError`."""
    return PATCH_MODELS[model].preprocess if model in PATCH_MODELS else preprocess_for(model)


def classifier_config(model: str) -> dict[str, Any]:
    """Return the shape of a classifier's tower, for fingerprints. Raises `UnknownNameError`."""
    return PATCH_MODELS[model].to_json() if model in PATCH_MODELS else model_config(model)
