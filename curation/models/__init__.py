"""Models: Tutelage's small proxy CLIPs, and every architecture that open_clip knows by name.

`MODELS` lists the proxies; a further proxy takes a JSON file in `configs/` (open_clip's config format) and one line in
that table. Import `load_dual_encoder` from `curation.models.dual`. This file imports neither torch nor open_clip, so
that a recipe can be validated (`model_config`, `Weights`) in milliseconds.
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
    "classifier",
    "cost",
    "device_copies",
    "devices",
    "dual",
    "fold_classifiers",
    "identity",
    "kmeans",
    "model_config",
    "model_names",
    "model_outputs",
    "packaged",
    "patch_config",
    "patch_tower",
    "preprocess_for",
    "probability_table",
    "retrieval",
    "ridge_head",
    "shared_encoder",
    "text_regions",
    "tokenizer",
    "towers",
    "trained_classifier",
    "vectors",
    "weight_shapes",
    "weights",
]
