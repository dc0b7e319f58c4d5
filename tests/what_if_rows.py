"""Rows and settings of the tests of what-if."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.filters.caption import Caption
from curation.filters.named import NamedFilter
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction

N = 400


def rows() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "row": pa.array(range(N), pa.int32()),
            "uid": [f"{i:032x}" for i in rng.permutation(N)],
            "reason": pa.array(["image_corrupt" if i % 40 == 0 else None for i in range(N)]),
            "caption": [" ".join(["word"] * int(n)) for n in rng.integers(0, 30, N)],
            "score": pa.array(rng.random(N), pa.float32()),
            "language.code": [str(code) for code in rng.choice(["en", "de", "ja"], N)],
        }
    )


def setting(least: float, fraction: float) -> list[NamedFilter]:
    items = (Caption(min_words=2), Threshold(score="score", min=least), TopFraction(score="score", fraction=fraction))
    return [NamedFilter(name, item) for name, item in zip(("caption", "threshold", "top_fraction"), items, strict=True)]


SETTINGS = {"loose": setting(0.1, 0.9), "tight": setting(0.5, 0.3), "loose again": setting(0.1, 0.9)}

KINDS = {"score": pa.float32(), "language.code": pa.string()}
