"""A trained classifier of pictures, from its weights and the classes that their header names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from curation.core.errors import WeightsError
from curation.models.classifier import Classifier, PatchClassifier, classifier_for_inference
from curation.models.dual import load_tensors
from curation.models.weights import Weights, classes_of, read_metadata, read_tensors

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions


def load_classifier(
    model: str, weights: Weights, device: torch.device | str = "cpu", options: StoreOptions | None = None
) -> tuple[Classifier | PatchClassifier, list[str]]:
    """Load a classifier that `curate learn` trained, in evaluation mode, and its classes in the order of the logits.

    Raises `WeightsError` for weights of another model, or without classes.
    """
    path = weights.fetch(options)
    classes = classes_of(read_metadata(path, weights.url), weights.url)
    if len(classes) < 2:
        raise WeightsError(f"{weights.url} names no classes", fix="name the weights of a classifier (`curate learn`)")
    module = classifier_for_inference(model, len(classes))
    load_tensors(module, read_tensors(path, weights.url), model, weights.url)
    return module.to(device).eval().requires_grad_(False), classes
