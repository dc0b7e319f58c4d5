"""What a data filtering network says of a pair: the match of image and caption, as trusted data would have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.scorers.clip_score import ClipScore


@dataclass(frozen=True, kw_only=True)
class Dfn(ClipScore):
    """Match of image and caption in the eyes of a network that was trained to filter.

    The cosine of the pair, as `clip_score`, under weights of `curate proxy train --objective dfn --data TRUSTED --pool
    POOL`. When to use it: where there are some pairs that one vouches for, and a pool of which much is noise.

    The paper's network is a CLIP of clean pairs alone, hundreds of millions of them; it filters better than a
    classifier of trusted against pool. A few thousand pairs are too few for that: so each batch is half trusted pairs
    and half pairs of the pool, whatever the sizes of the two, with CLIP's loss over all of them. The pool gives variety
    and negatives; the trusted pairs weigh as much as all of it.
    Measured (the demo's corpus, proxy-mu, 600 updates of 128 pairs each; AUC of matching above swapped captions within
    the pool): 5,000 trusted pairs and a pool of 20,000 half of which is swapped: CLIP of the pool 0.69, of the trusted
    pairs 0.76, of the pool and then of the trusted pairs 0.77, this 0.81 (3 seeds, each +-0.01). 2,500 and 23,000, 80 %
    swapped: 0.56, 0.69, 0.70, this 0.68 (2 seeds): such a pool has little to add.
    One pass of each tower, shared with every scorer that names the same weights. Range [-1, 1]; higher is better.
    Source: Data Filtering Networks (2309.17425), section 3; the mixed batch is ours.
    Cost: the two passes.
    Example: dfn: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...}
    """

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "kind": "dfn"}
