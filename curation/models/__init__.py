"""The room of models: small proxies of our own, and every architecture that open_clip knows by name.

`MODELS` is the table of our own; a new one is a JSON file in `configs/` (open_clip's config format) and one line here.
Import `load_dual_encoder` from `curation.models.dual`; this file imports neither torch nor open_clip, so that a
recipe can be validated (`model_config`, `Weights`) in milliseconds.
"""

from __future__ import annotations

from curation.models.architecture import (
    MODELS,
    Cost,
    cost,
    model_config,
    model_names,
    preprocess_for,
)
from curation.models.weights import Weights

__all__ = [
    "MODELS",
    "Cost",
    "Weights",
    "architecture",
    "batches",
    "cost",
    "devices",
    "dual",
    "fits",
    "identity",
    "kmeans",
    "model_config",
    "model_names",
    "model_outputs",
    "packaged",
    "preprocess_for",
    "retrieval",
    "shared",
    "text_regions",
    "tokenizer",
    "vectors",
    "weights",
]
