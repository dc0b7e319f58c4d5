"""Trained models as judges: each gives every sample of an evaluation set one class.

    classifier       weights of `curate learn` with a learner `classification`: safetensors whose header has `classes`
    folds            weights of `curate proxy train --objective classes`: the mean over the classifiers that did not
                     train on the picture
    probabilities    a Parquet file with `uid` and `probabilities`, and `classes` in its metadata: any other model
    clip             weights of `curate proxy train`: the nearest class by its name in words (`models.retrieval`)

A folder stands for the weights that its `summary.json` or `card.json` names. Cost: an image pass a sample and model;
folds cost one a run and sample, and one a fold for pictures that they have not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch

from curation.core.errors import NotFoundError, UserError, WeightsError
from curation.models.batches import Examples
from curation.models.dual import load_dual_encoder
from curation.models.fold_classifiers import FoldClassifiers, FoldRule, shared_fold_classifiers
from curation.models.patch_config import classifier_preprocess
from curation.models.probability_table import ProbabilityFile, shared_table
from curation.models.retrieval import class_vectors, encode_images
from curation.models.trained_classifier import load_classifier
from curation.models.weights import Weights, classes_of, read_metadata
from curation.shards.images import Mode
from curation.storage.store import StoreOptions, open_object, open_store

BATCH = 256  # pictures that a model judges at once
KINDS = "safetensors, a Parquet file of probabilities, a folder of `curate learn` or `curate proxy train`, or a dataset"

Array = np.ndarray[Any, Any]
#: Scores of the classes for samples and their pictures' content hashes: float [N, K], NaN for a sample without any.
Scores = Callable[[Examples, Sequence[str], Sequence[str]], Array]


class View(NamedTuple):
    """How a model's pictures are decoded."""

    size: int
    mode: Mode


class Judge(NamedTuple):
    """A model. `classes`: those it knows, none for a model that takes any. `view`: None for a table."""

    kind: str
    url: str
    sha256: str
    classes: list[str]
    view: View | None
    scores: Scores

    def guesses(self, examples: Examples, contents: Sequence[str], classes: Sequence[str]) -> list[str | None]:
        """Return the most likely of these classes for each sample; None where the model has no answer."""
        scores = self.scores(examples, contents, classes)
        missing: list[bool] = np.isnan(scores[:, 0]).tolist()  # a row is NaN as a whole
        best: list[int] = np.nan_to_num(scores).argmax(axis=1).tolist()
        return [None if gone else classes[at] for gone, at in zip(missing, best, strict=True)]


def open_judge(url: str, device: torch.device, options: StoreOptions | None = None) -> Judge:
    """Load the model at a URL. Raises `UserError` for what is none."""
    weights = weights_at(url, options)
    found = weights.url
    if found.endswith(".parquet"):
        return _of_table(url, ProbabilityFile(found, weights.sha256), options)
    path = weights.fetch(options)
    metadata = read_metadata(path, found)
    model, classes = metadata.get("model", ""), classes_of(metadata, found)
    if not model:
        fix = "use weights that `curate learn` or `curate proxy train` wrote, or a Parquet file of probabilities"
        raise WeightsError(f"{found} does not name its model", fix=fix)
    preprocess = classifier_preprocess(model)
    view = View(preprocess.size, preprocess.mode)
    if "folds" in metadata:
        folds = shared_fold_classifiers(model, weights, device, options)
        return Judge("folds", url, weights.sha256, folds.classes, view, _of_classifiers(folds))
    if classes:
        module, classes = load_classifier(model, weights, device, options)
        one = FoldClassifiers(model, classes, FoldRule(1, 1), [module], np.zeros(0, np.int64), device)
        return Judge("classifier", url, weights.sha256, classes, view, _of_classifiers(one))
    encoder = load_dual_encoder(model, weights, device, options=options)

    def nearest(examples: Examples, contents: Sequence[str], wanted: Sequence[str]) -> Array:
        scores = encode_images(encoder, examples, BATCH) @ class_vectors(encoder, wanted).T
        return np.asarray(scores.float().cpu().numpy())

    return Judge("clip", url, weights.sha256, [], view, nearest)


def _of_classifiers(folds: FoldClassifiers) -> Scores:
    def mean_over_runs(examples: Examples, contents: Sequence[str], wanted: Sequence[str]) -> Array:
        places = [folds.classes.index(name) for name in wanted]
        parts = [
            folds.runs(examples.pixels[at : at + BATCH], contents[at : at + BATCH]).mean(axis=0)[:, places]
            for at in range(0, len(examples), BATCH)
        ]
        return np.concatenate(parts)

    return mean_over_runs


def _of_table(url: str, file: ProbabilityFile, options: StoreOptions | None) -> Judge:
    table = shared_table(file, (), options)
    if not table.classes:
        fix = "write the JSON list of names under `classes` into the key-value metadata of the Parquet file"
        raise UserError(f"{url} does not name its classes", fix=fix)

    def listed(examples: Examples, contents: Sequence[str], wanted: Sequence[str]) -> Array:
        found, reasons = table.posterior(examples.uids)
        found[list(reasons)] = np.nan
        return found[:, [table.classes.index(name) for name in wanted]]

    return Judge("probabilities", url, file.sha256, table.classes, None, listed)


def weights_at(url: str, options: StoreOptions | None = None) -> Weights:
    """Return the file that a URL stands for, pinned as it is now: weights, or a table of probabilities."""
    found = _weights_in(url, options)
    return Weights(found, _sha256(found, options))


def _weights_in(url: str, options: StoreOptions | None) -> str:
    """Return the URL of the weights, or of the table, that a URL stands for."""
    if url.endswith((".safetensors", ".parquet")):
        return url
    store = open_store(url, options)
    for name in ("summary.json", "card.json"):
        try:
            key = json.loads(store.get(name)).get("key")
        except (NotFoundError, ValueError, AttributeError):
            continue
        if isinstance(key, str) and key:
            return store.location(key)
    raise UserError(f"{url} is no model that can be judged", fix=f"name {KINDS}")


def _sha256(url: str, options: StoreOptions | None) -> str:
    """Return the sha256 of the file at a URL. Costs one read of it."""
    store, key = open_object(url, options)
    try:
        info = store.head(key)
        digest = sha256()
        for block in store.blocks(key, info.size, info.etag):
            digest.update(block)
    except NotFoundError:
        raise UserError(f"{url} does not exist", fix=f"name {KINDS}") from None
    return digest.hexdigest()
