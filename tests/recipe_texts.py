"""A good recipe of each kind, which tests change in one place, and the form that every mistake has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from services import one_line

from curation.core.errors import TutelageError

SHA = "ab" * 32
GOOD = f"""
corpus: /data/{{00000..00003}}.tar
output: /out
scorers:
  - clip_score: {{model: proxy-mu, weights: /w.safetensors, sha256: {SHA}}}
  - embedding: {{model: proxy-mu, weights: /w.safetensors, sha256: {SHA}}}
filters:
  - caption: {{min_words: 2}}
  - top_fraction: {{score: clip_score, fraction: 0.3}}
shards: {{samples: 1000}}
"""
LEARNING = f"""\
data: pool
output: out
learner:
  contrastive: {{model: proxy-ti, steps: 60, lr: 1.0e-3}}
online: {{model: proxy-mu, lr: 2.0e-3}}
reference: {{model: proxy-mu, weights: w.safetensors, sha256: {SHA}}}
selection:
  selector: {{learnability: {{gain: {{start: 5, end: 20}}}}}}
  filtering_ratio: 0.8
"""


def changed(text: str, old: str, new: str) -> str:
    """The recipe with its first `old` replaced; a test whose `old` is gone tests nothing."""
    assert old in text
    return text.replace(old, new, 1)


def expect_mistake(parse: Callable[[], object], *says: str, fix: str = "") -> None:
    """`parse` refuses the recipe in one printable line that holds all of `says`, and its fix holds `fix`."""
    with pytest.raises(TutelageError) as caught:
        parse()
    assert one_line(caught.value).isprintable()
    line = f"{caught.value} -- {caught.value.fix}"
    assert all(part in line for part in says), line
    assert fix in (caught.value.fix or "")
