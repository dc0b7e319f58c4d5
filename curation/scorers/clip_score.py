"""Cosine similarity of image and caption: the workhorse of web-scale filtering."""

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
class ClipScore:
    """Cosine similarity of image and caption under a dual encoder.

    One image pass and one text pass a sample, shared with every scorer that names the same weights.
    Source: DataComp (2304.14108), section 3.3. Range [-1, 1]; higher is a better match.
    """

    model: str
    weights: str
    sha256: str
    precision: Literal["fp32", "bf16"] = "fp32"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "clip_score", "code": 1, **encoder_identity(self.model, self.sha256, self.precision)}

    def view(self) -> Preprocess:
        return preprocess_for(self.model)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        from curation.models.shared import shared_dual_encoder

        weights = Weights(self.weights, self.sha256)
        encoder = shared_dual_encoder(self.model, weights, device, self.precision, options)

        def score(batch: Batch) -> torch.Tensor:
            image = batch.once((encoder, "image"), lambda: encoder.image(batch.pixels(encoder.preprocess)))
            text = batch.once((encoder, "text"), lambda: encoder.text(batch.captions))
            similarity: torch.Tensor = (image * text).sum(-1)
            return similarity

        return score
