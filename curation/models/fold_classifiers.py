"""Classifiers trained by folds: each picture is judged by those alone that did not train on it.

One safetensors file holds the classifiers of all runs and folds, the content hashes of the pictures that they trained
on, and in its metadata the classes and the rule of the folds. A picture in the list is judged by the classifier of its
fold (`core.folds`), which did not see it or a copy; any other picture by the mean of a run's classifiers.
Cost: one image pass a run for a picture in the list, one pass a fold for another; 8 bytes of memory a listed picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from curation.core.errors import WeightsError
from curation.core.folds import FOLD_RULE, fold_of
from curation.models.classifier import Classifier, PatchClassifier, classifier_for_inference
from curation.models.dual import MIN_ROWS, load_tensors
from curation.models.hash_keys import hash_keys
from curation.models.patch_config import classifier_preprocess
from curation.models.towers import PixelNormaliser, pad_rows
from curation.models.weights import Weights, classes_of, read_metadata, read_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

Array = np.ndarray[Any, Any]

CONTENTS = "contents"  # the tensor of the trained-on pictures
ON_GPU = 64  # pictures of a batch on a GPU, where another shape may round differently
FIX = "create the file: curate proxy train --objective classes --folds 5"


class FoldRule(NamedTuple):
    """How pictures are divided: `runs` times into `folds` folds, by version `rule` of `core.folds`."""

    folds: int
    runs: int
    rule: int = FOLD_RULE


def content_keys(contents: Sequence[str | None]) -> Array:
    """Return the keys of content hashes as int64 [N], which a tensor of a file can hold; 0 for None."""
    return hash_keys(contents).view(np.int64)


def folds_file(
    model: str, classes: Sequence[str], rule: FoldRule, classifiers: Sequence[Mapping[str, Tensor]],
    contents: Sequence[str], metadata: Mapping[str, str],
) -> bytes:  # fmt: skip
    """Return the bytes of a file of classifiers: a pure function of the arguments.

    classifiers: the weights of run 0's folds, then run 1's. contents: content hashes of the trained-on pictures.
    metadata: further fields of the header.
    """
    tensors = {
        f"{number // rule.folds}.{number % rule.folds}.{name}": tensor
        for number, weights in enumerate(classifiers)
        for name, tensor in weights.items()
    }
    tensors[CONTENTS] = torch.from_numpy(np.unique(content_keys(contents)))
    about = {"format": "pt", "model": model, "classes": json.dumps(list(classes)), "folds": json.dumps(rule._asdict())}
    return tensors_to_bytes(tensors, {**metadata, **about})


def read_fold_rule(metadata: Mapping[str, str], model: str, origin: str) -> FoldRule:
    """Return the rule in a file's metadata. Raises `WeightsError` for another kind of file, model or rule."""
    if "folds" not in metadata:
        raise WeightsError(f"{origin} has no classifiers of folds", fix=FIX)
    try:
        rule = FoldRule(**json.loads(metadata["folds"]))
        valid = rule.folds >= 2 and rule.runs >= 1 and rule.rule == FOLD_RULE
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise WeightsError(f"{origin} has folds of another version: {metadata['folds'][:100]}", fix=FIX)
    if metadata.get("model") != model:
        text = f"{origin} has classifiers of model {metadata.get('model')}, not of {model}"
        raise WeightsError(text, fix=f"set `model: {metadata.get('model')}`")
    return rule


@lru_cache(maxsize=8)
def shared_fold_classifiers(
    model: str, weights: Weights, device: torch.device, options: StoreOptions | None
) -> FoldClassifiers:
    """Load a file of classifiers, once a process for equal arguments. Raises `WeightsError`."""
    path = weights.fetch(options)
    metadata = read_metadata(path, weights.url)
    rule, classes = read_fold_rule(metadata, model, weights.url), classes_of(metadata, weights.url)
    tensors = read_tensors(path, weights.url)
    contents = tensors.pop(CONTENTS, None)
    if contents is None or len(classes) < 2:
        raise WeightsError(f"{weights.url} names no classes, or no pictures of its training", fix=FIX)
    modules = []
    for run in range(rule.runs):
        for fold in range(rule.folds):
            module, prefix = classifier_for_inference(model, len(classes)), f"{run}.{fold}."
            own = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
            load_tensors(module, own, model, weights.url)
            modules.append(module.to(device).eval().requires_grad_(False))
    return FoldClassifiers(model, classes, rule, modules, contents.numpy(), device)


class FoldClassifiers:
    """Loaded classifiers of folds, for inference. Scorers of one process share the object.

    A distribution depends on its own picture and not on the rest of the batch, as those of `DualEncoder`.
    """

    def __init__(
        self, model: str, classes: Sequence[str], rule: FoldRule, modules: Sequence[Classifier | PatchClassifier],
        contents: Array, device: torch.device,
    ) -> None:  # fmt: skip
        self.model, self.classes, self.rule, self.modules = model, list(classes), rule, modules
        self.contents, self.device, self.preprocess = contents, device, classifier_preprocess(model)
        self._normalise = PixelNormaliser(self.preprocess).to(device)

    def runs(self, pixels: Array | Tensor, contents: Sequence[str | None]) -> Array:
        """Return the distributions of all runs, float64 [R, N, K].

        pixels: uint8 [N, S, S, 3] with S = `preprocess.size`, here or on the device. contents: the pictures' hashes.
        """
        seen = np.isin(content_keys(contents), self.contents)
        found = np.zeros((self.rule.runs, len(pixels), len(self.classes)))
        for run in range(self.rule.runs):
            own = np.array([fold_of(text or "", self.rule.folds, run) for text in contents], np.int64)
            for fold in range(self.rule.folds):
                rows = np.flatnonzero(~seen | (own == fold))
                for some in self._pieces(rows):
                    found[run, some] += self._distributions(run * self.rule.folds + fold, pixels[some])
        found[:, ~seen] /= self.rule.folds
        return found

    def _pieces(self, rows: Array) -> Iterator[Array]:
        size = len(rows) if self.device.type == "cpu" else ON_GPU
        yield from (rows[start : start + size] for start in range(0, len(rows), max(1, size)))

    @torch.inference_mode()
    def _distributions(self, number: int, pixels: Array | Tensor) -> Array:
        """Return the softmax of one classifier, float64 [n, K]. The head works in float64, as that of `Head` does."""
        module, rows = self.modules[number], MIN_ROWS if self.device.type == "cpu" else ON_GPU
        batch = pad_rows(torch.as_tensor(pixels), rows).to(self.device)
        features = module.visual(self._normalise(batch))[: len(pixels)].double()
        logits = linear(features, module.head.weight.double(), module.head.bias.double())
        found: Array = logits.softmax(dim=1).cpu().numpy()
        return found
