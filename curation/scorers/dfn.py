"""Score of a data filtering network: the match of image and caption, learned from trusted pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.scorers.clip_score import ClipScore


@dataclass(frozen=True, kw_only=True)
class Dfn(ClipScore):
    """Match of image and caption under a data filtering network: a CLIP that was trained to filter.

    The value is the cosine of the pair, as for `clip_score`, under weights of `curate proxy train --objective dfn
    --data TRUSTED --pool POOL`. Range [-1, 1]; a higher value is a better match.
    When to use: some pairs are trusted, and a large part of the pool is noise.

    The paper trains a CLIP on hundreds of millions of clean pairs alone, which filters better than a classifier of
    trusted against pool pairs. A few thousand pairs are too few for that. Here half of each batch are trusted pairs and
    half are pool pairs, whatever the sizes of the two sets, with CLIP's loss over the batch: the pool adds variety and
    negatives, and the trusted pairs weigh as much as the whole pool.
    Measured on the demo's corpus (proxy-mu, 600 updates of 128 pairs; AUC of matching over swapped captions in the
    pool). 5,000 trusted pairs and a pool of 20,000 with 50 % swapped captions: CLIP on the pool 0.69, on the trusted
    pairs 0.76, on the pool and then the trusted pairs 0.77, this method 0.81 (3 seeds, each +-0.01). 2,500 trusted
    pairs and a pool of 23,000 with 80 % swapped: 0.56, 0.69, 0.70 and 0.68 (2 seeds), because such a pool adds little.
    Cost: one pass of each tower, shared with every scorer that names the same weights.
    Source: Data Filtering Networks (2309.17425), section 3; the mixed batch is ours.
    Example: dfn: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...}
    """

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "kind": "dfn"}
