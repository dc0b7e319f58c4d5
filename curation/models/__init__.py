"""The room of models: small proxies of our own, and every architecture that open_clip knows by name.

`MODELS` is the table of our own; a new one is a JSON file in `configs/` (open_clip's config format) and one line here.
Import `load_dual_encoder` from `curation.models.dual`; this file imports neither torch nor open_clip, so that a
recipe can be validated (`model_config`, `Weights`) in milliseconds.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from curation.models.architecture import (
    MODELS,
    Cost,
    cost,
    model_config,
    model_names,
    preprocess_for,
)
from curation.models.weights import Weights

if TYPE_CHECKING:
    import torch

    from curation.models.dual import DualEncoder, Precision

MODEL_CODE = 1  # raise it with any change here that changes a vector: tokens, normalisation, pooling

__all__ = [
    "MODELS",
    "Cost",
    "Weights",
    "cost",
    "dual_encoder",
    "encoder_identity",
    "model_config",
    "model_names",
    "preprocess_for",
]


@cache
def dual_encoder(model: str, weights: Weights, device: torch.device | str, precision: Precision = "fp32") -> DualEncoder:
    """`load_dual_encoder`, once a process: scorers that name the same weights share one encoder."""
    from curation.models.dual import load_dual_encoder

    return load_dual_encoder(model, weights, device, precision)


def encoder_identity(model: str, sha256: str, precision: str) -> dict[str, Any]:
    """All that decides an encoder's vectors, for a scorer's fingerprint."""
    from dataclasses import asdict

    return {
        "model": model,
        "config": model_config(model),
        "sha256": sha256,
        "preprocess": asdict(preprocess_for(model)),
        "precision": precision,
        "model_code": MODEL_CODE,
    }
