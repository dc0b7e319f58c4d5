"""Identity of a model: everything that determines its output, for fingerprints. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from curation.models.architecture import model_config, preprocess_for
from curation.models.patch_config import classifier_config, classifier_preprocess


def encoder_identity(model: str, sha256: str, precision: str) -> dict[str, Any]:
    """Architecture, weights' sha256, preprocessing and precision; neither the weights' URL nor the device is part."""
    return {
        "model": model,
        "config": model_config(model),
        "weights": sha256,
        "preprocess": asdict(preprocess_for(model)),
        "precision": precision,
    }


def classifier_identity(model: str, sha256: str) -> dict[str, Any]:
    """Return the identity of classifiers of folds: as `encoder_identity`, also of a model of patches."""
    return {
        "model": model,
        "config": classifier_config(model),
        "weights": sha256,
        "preprocess": asdict(classifier_preprocess(model)),
        "precision": "fp32",
    }
