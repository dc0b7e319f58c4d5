"""The embedding of an image or a caption under a dual encoder, for deduplication, clustering and search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from curation.models import Weights, preprocess_for
from curation.models.identity import encoder_identity

if TYPE_CHECKING:
    import torch

    from curation.images import Preprocess
    from curation.scorers import Batch, Score
    from curation.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Unit-length embedding of the image (or the caption); kept in half precision: 2 bytes a dimension.

    Free beside `clip_score` with the same weights: the forward pass is shared.
    """

    model: str
    weights: str
    sha256: str
    of: Literal["image", "text"] = "image"
    precision: Literal["fp32", "bf16"] = "fp32"

    def identity(self) -> Mapping[str, Any]:
        encoder = encoder_identity(self.model, self.sha256, self.precision)
        return {"kind": "embedding", "code": 1, "of": self.of, **encoder}

    def view(self) -> Preprocess | None:
        return preprocess_for(self.model) if self.of == "image" else None

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        from curation.models.shared import shared_dual_encoder

        weights = Weights(self.weights, self.sha256)
        encoder = shared_dual_encoder(self.model, weights, device, self.precision, options)

        def score(batch: Batch) -> torch.Tensor:
            if self.of == "text":
                vectors = batch.once((encoder, "text"), lambda: encoder.text(batch.captions))
            else:
                vectors = batch.once((encoder, "image"), lambda: encoder.image(batch.pixels(encoder.preprocess)))
            return vectors

        return score
