"""Embedding of an image or a caption under a dual encoder, for deduplication, clustering and search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Embedding(Encoder):
    """Unit-length embedding of the image, or with `of: text` of the caption, in half precision (2 bytes a dimension).

    When to use: before `semantic_duplicates` and `decontaminate`, and for your own work with vectors.
    Cost: one pass of one tower, shared: free beside `clip_score` with the same weights.
    Example: embedding: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...}
    """

    of: Literal["image", "text"] = "image"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "embedding", "code": 1, "of": self.of, **self.encoder()}

    def views(self) -> Sequence[Preprocess]:
        return super().views() if self.of == "image" else ()

    def values(self) -> pa.DataType:
        return pa.list_(pa.float16())

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        passes = self.open(device, options)
        return passes.image if self.of == "image" else passes.text
