"""What decides a dual encoder's output, for fingerprints. Imports neither torch nor open_clip."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from curation.models.architecture import model_config, preprocess_for


def encoder_identity(model: str, sha256: str, precision: str) -> dict[str, Any]:
    """Architecture, weights, preprocessing and precision. Where the weights lie and on what they run is left out."""
    return {
        "model": model,
        "config": model_config(model),
        "weights": sha256,
        "preprocess": asdict(preprocess_for(model)),
        "precision": precision,
    }
