"""Identity of a dual encoder: everything that determines its output, for fingerprints. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from curation.models.architecture import model_config, preprocess_for


def encoder_identity(model: str, sha256: str, precision: str) -> dict[str, Any]:
    """Architecture, weights' sha256, preprocessing and precision; neither the weights' URL nor the device is part."""
    return {
        "model": model,
        "config": model_config(model),
        "weights": sha256,
        "preprocess": asdict(preprocess_for(model)),
        "precision": precision,
    }
