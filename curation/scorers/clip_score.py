"""Cosine similarity of image and caption, the standard score for filtering web-scale corpora."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class ClipScore(Encoder):
    """Cosine similarity of image and caption under a dual encoder.

    Range [-1, 1]; a higher value is a better match.
    Cost: one image pass and one text pass a sample, shared with every scorer that names the same weights; `curate proxy
    ls` lists their FLOPs. Source: DataComp (2304.14108), section 3.3.
    Example: clip_score: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...}
    """

    unit: ClassVar[str] = "cosine"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "clip_score", "code": 1, **self.encoder()}

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        return self.open(device, options).similarity
