"""Fine-tune classifiers of folds on corrected labels, so that still none judges a picture that it was trained on.

A picture is trained on by the classifiers of the other folds alone, and joins the list of trained-on pictures: from
then on the classifier of its fold judges it and its copies. The original classifiers are the start of every tuning, so
that the result depends on the pictures and labels, and not on the rounds before.
Of a model of patches, whose features were fitted without labels, the head alone learns: its change Z minimises the mean
cross-entropy of the answers plus PENALTY D / (2 N) |Z|^2, over N pictures and D standardised features. The bias stays:
answered items were chosen, so the shares of their classes say nothing of the others.
Cost: `EPOCHS` passes over the pictures for each fold but one; of patches one pass, and 1 CPU second for 1,000 pictures.
Memory: 3 KB a picture at 32 px, 12 KB at 64 px; of patches 6.4 KB more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from curation.core.folds import fold_of
from curation.learners.classification import ClassLearner
from curation.learners.learner import train
from curation.learners.training import Training
from curation.models.batches import TrainingBatch
from curation.models.classifier import Classifier, PatchClassifier
from curation.models.fold_classifiers import FoldClassifiers, content_keys
from curation.models.towers import PixelNormaliser

Array = np.ndarray[Any, Any]

EPOCHS, BATCH, RATE = 5, 64, 5e-4
PENALTY, ROUNDS = 1.0, 50  # of a head: see above; iterations of L-BFGS
LEAST_DEVIATION = 0.01  # added to a feature's deviation: a feature that is nearly constant is not enlarged
PASS = 1024  # pictures whose pixels are floats at once
LEAST = 8  # pictures outside of a fold; its classifier stays as it is with fewer


def fine_tuned(base: FoldClassifiers, pixels: Array, contents: Sequence[str], targets: Array) -> FoldClassifiers:
    """Return classifiers that were trained on further pictures as well; `base` stays unchanged.

    pixels: uint8 [N, S, S, 3]. contents: their content hashes. targets: the classes, int64 [N], indices into
    `base.classes`.
    """
    modules = []
    for run in range(base.rule.runs):
        own = np.array([fold_of(text, base.rule.folds, run) for text in contents], np.int64)
        for fold in range(base.rule.folds):
            rows, number = np.flatnonzero(own != fold), run * base.rule.folds + fold
            module = base.modules[number]
            tune = _with_tuned_head if isinstance(module, PatchClassifier) else _tuned
            modules.append(module if len(rows) < LEAST else tune(base, number, pixels[rows], targets[rows]))
    known = np.union1d(base.contents, content_keys(contents))
    return FoldClassifiers(base.model, base.classes, base.rule, modules, known, base.device)


def settings() -> dict[str, Any]:
    """Everything of this module that determines the classifiers, beside its arguments."""
    return {"code": 1, "epochs": EPOCHS, "batch": BATCH, "lr": RATE, "least": LEAST, "head": [PENALTY, ROUNDS]}


def _tuned(base: FoldClassifiers, number: int, pixels: Array, targets: Array) -> Classifier:
    """Return classifier `number`, trained on these pictures from its weights."""
    batch = min(BATCH, len(pixels))
    training = Training(steps=max(1, round(EPOCHS * len(pixels) / batch)), batch=batch, lr=RATE, seed=number)
    learner = ClassLearner(base.model, base.classes, training, base.device)
    learner.module.load_state_dict(base.modules[number].state_dict())
    train(learner, islice(_batches(pixels, targets, batch, number), training.steps), lambda report: None)
    assert isinstance(learner.module, Classifier)
    return learner.module.eval().requires_grad_(False)


def _with_tuned_head(base: FoldClassifiers, number: int, pixels: Array, targets: Array) -> PatchClassifier:
    """Return classifier `number` of patches with another head: its tower has seen no label, and stays."""
    module = base.modules[number]
    assert isinstance(module, PatchClassifier)
    normalise = PixelNormaliser(base.preprocess).to(base.device)
    with torch.inference_mode():
        parts = (torch.from_numpy(part).to(base.device) for part in np.array_split(pixels, -(-len(pixels) // PASS)))
        features = torch.cat([module.visual(normalise(part)) for part in parts])
    features = features.clone()  # a tensor of inference mode can't be trained on
    deviation = features.std(dim=0, correction=0) + LEAST_DEVIATION
    shown, wanted = (features - features.mean(dim=0)) / deviation, torch.from_numpy(targets).to(base.device)
    start = module.head(features)
    change = torch.zeros(len(base.classes), features.shape[1], device=base.device, requires_grad=True)
    penalty = PENALTY * features.shape[1] / (2 * len(features))
    solver = torch.optim.LBFGS([change], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = cross_entropy(start + shown @ change.T, wanted) + penalty * change.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    tuned = copy.deepcopy(module)
    with torch.no_grad():
        weight = change / deviation
        tuned.head.weight.add_(weight)
        tuned.head.bias.sub_(weight @ features.mean(dim=0))
    return tuned.eval().requires_grad_(False)


def _batches(pixels: Array, targets: Array, size: int, seed: int) -> Iterator[TrainingBatch]:
    """Yield batches without end: every picture once an epoch, in a new random order; a rest begins the next epoch."""
    random, held = np.random.default_rng(seed), np.zeros(0, np.int64)
    while True:
        while len(held) < size:
            held = np.concatenate([held, random.permutation(len(pixels))])
        some, held = held[:size], held[size:]
        yield TrainingBatch(torch.from_numpy(pixels[some]), torch.from_numpy(targets[some]))
