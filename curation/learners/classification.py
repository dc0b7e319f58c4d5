"""ClassAct: a classifier of pictures, whose cross-entropy is both its training loss and its score.

When to use: samples have labels (a field of their json) rather than captions. The model is the image tower of any
architecture that `curate proxy ls --all` lists, with a linear head over its features. The score of a sample is
l(x | theta) = -log softmax(W f(x) + c)_y. Source: 2312.05328, section 3 and its JFT experiments.

A batch that does not fit into memory is trained in parts (`micro_batch`) whose gradients are summed: the same update.
Cost of a step: the FLOPs of three forward passes of the image tower for each sample; no text.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from curation.core.errors import EmptyCorpusError, UserError
from curation.core.intervals import HitRate, wilson
from curation.core.ranges import check_count
from curation.learners.kind import HoldoutUnit, LearnerKind, LossUnit
from curation.learners.learner import Learner
from curation.learners.picture_sizes import TrainingView
from curation.learners.training import Training
from curation.models.batches import Examples, SuperBatch
from curation.models.classifier import Classifier
from curation.models.dual import load_tensors
from curation.models.model_outputs import Losses
from curation.models.weights import Weights, read_metadata, read_tensors
from curation.models.weights import classes_of as recorded_classes
from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Classification(LearnerKind):
    """A classifier of pictures: an image tower with a linear head, trained with the cross-entropy of labels.

    When to use: samples have a label, a field of their json, rather than captions. `least`: samples that a label needs
    to become a class. Samples are held out by picture, since holding out by name could remove all
    samples of a class. Cost: three forward
    passes of the image tower a sample. Source: ClassAct (2312.05328).
    Example: classification: {model: proxy-mu, steps: 800, batch: 128, label: name}
    """

    label: str = "name"
    least: int = 2

    holdout_unit: ClassVar[HoldoutUnit] = "picture"
    loss_unit: ClassVar[LossUnit] = "nats"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("least", self.least, "it is the number of samples that make a label a class", least=1)

    @property
    def label_field(self) -> str:
        return self.label

    def classes(self, counts: Mapping[str, int]) -> list[str]:
        return shared_labels(counts, self.least)

    def usable_rows(self, examples: Examples, classes: Sequence[str]) -> list[int]:
        return known_rows(examples, classes)

    def targets(self, examples: Examples, classes: Sequence[str]) -> Tensor:
        return targets_of(examples, classes)

    def build(
        self, model: str, training: Training, classes: Sequence[str], device: torch.device | str = "cpu"
    ) -> ClassLearner:
        return ClassLearner(model, classes, training, device)

    def load_reference(
        self,
        model: str,
        weights: Weights,
        training: Training,
        classes: Sequence[str],
        device: torch.device | str,
        options: StoreOptions,
    ) -> ClassLearner:
        path = weights.fetch(options)
        known = recorded_classes(read_metadata(path, weights.url), weights.url)
        if not set(known) & set(classes):
            fix = "train the reference on the same kind of labels, or let `reference.train` do it"
            raise UserError(f"{weights.url} knows none of the classes of this data", fix=fix)
        learner = ClassLearner(model, known, training, device, asked=classes)
        load_tensors(learner.module, read_tensors(path, weights.url), model, weights.url)
        return learner


class ClassLearner(Learner):
    """A classifier under training.

    classes: their names, in the order of the logits. Targets of a batch are indices into this list.
    asked: the classes of the run for which a trained classifier scores. Targets of candidates are indices into `asked`;
        for a class that the model does not know, the loss is that of a uniform guess, log(number of classes).
    """

    def __init__(
        self,
        model: str,
        classes: Sequence[str],
        training: Training,
        device: torch.device | str = "cpu",
        asked: Sequence[str] | None = None,
    ) -> None:
        self.classes = list(classes)
        index = {name: number for number, name in enumerate(self.classes)}
        self._own_index = None if asked is None else torch.tensor([index.get(name, -1) for name in asked])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            module = Classifier(model, len(self.classes))
        super().__init__(model, module, training, device)

    @torch.no_grad()
    def outputs(self, candidates: SuperBatch) -> Losses:
        """Return the current model's cross-entropies, float32 `[B]`. Changes no weight."""
        pixels, classes = (self.on_device(part) for part in candidates.batch)
        with self.autocast():
            logits = self.in_parts(lambda some: self.sizes.scoring_features(some, self.module), pixels).float()
        if self._own_index is None:
            return Losses(cross_entropy(logits, classes, reduction="none"))
        own = self._own_index.to(classes.device)[classes]
        losses = cross_entropy(logits, own.clamp_min(0), reduction="none")
        return Losses(torch.where(own < 0, math.log(len(self.classes)), losses))

    def evaluate(self, held_out: Examples) -> dict[str, Any]:
        """Return `accuracy` with its interval, which is also the `quality`."""
        found = accuracy(self, held_out)
        return {"quality": found.rate, "accuracy": asdict(found)}

    def metadata(self) -> dict[str, str]:
        return {"classes": json.dumps(self.classes)}

    def head_flops(self) -> float:
        return 2.0 * self.width * len(self.classes)

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return float32 `[N, classes]` for uint8 `[N, S, S, 3]`, with the current weights, not their averages."""
        with self.autocast():
            logits: Tensor = self.module(self.sizes.normalise(self.on_device(pixels))).float()
        return logits

    def _encode(self, pixels: Tensor, targets: Tensor, small: Tensor) -> Tensor:
        with self.autocast():
            logits = self.sizes.training_features(pixels, small, self.module)
        return cross_entropy(logits.float(), targets)

    def _backward(self, shown: TrainingView) -> Tensor:
        loss: Tensor = self._forward(self.on_device(shown.pixels), self.on_device(shown.targets), shown.small)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _backward_in_parts(self, shown: TrainingView, size: int) -> Tensor:
        total = torch.zeros((), device=self.device)
        done = 0
        for pixels, classes, small in zip(*(torch.split(part, size) for part in shown), strict=True):
            done += len(pixels)
            with self._accumulate(last=done == len(shown.pixels)):
                share = len(pixels) / len(shown.pixels)
                loss: Tensor = share * self._forward(self.on_device(pixels), self.on_device(classes), small)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total


def shared_labels(labels: Iterable[str] | Mapping[str, int], least: int = 2) -> list[str]:
    """Return the labels that at least `least` samples have, sorted. The empty label is none.

    labels: one a sample, or samples by label. Raises `EmptyCorpusError` for fewer than two such labels.
    """
    found = sorted(label for label, count in Counter(labels).items() if label and count >= least)
    if len(found) < 2:
        text = f"the samples have {len(found)} labels that at least {least} of them share"
        raise EmptyCorpusError(text, fix="name the json field that holds the class: learner.classification.label")
    return found


def labelled(examples: Examples, classes: Sequence[str]) -> tuple[Examples, Tensor]:
    """Return the samples whose label is one of the classes, and the index of each label, int64 `[N]`.

    Raises `UserError` if there is no such sample.
    """
    rows = known_rows(examples, classes)
    if not rows:
        raise UserError("no sample has a label that the classifier knows", fix="train on data with the same labels")
    known = examples.take(rows)
    return known, targets_of(known, classes)


def known_rows(examples: Examples, classes: Sequence[str]) -> list[int]:
    """Return the rows whose label is one of the classes."""
    known = set(classes)
    return [row for row, label in enumerate(examples.labels) if label in known]


def targets_of(examples: Examples, classes: Sequence[str]) -> Tensor:
    """Return the index of each sample's label in `classes`, int64 `[N]`. Every label is one of them."""
    index = {name: number for number, name in enumerate(classes)}
    return torch.tensor([index[label] for label in examples.labels])


def accuracy(learner: ClassLearner, examples: Examples, batch: int = 256) -> HitRate:
    """Return the share of samples whose most likely class is their label, by the averaged weights if there are any.

    Samples of other labels are left out. Raises `UserError` if no sample is left.
    """
    known, truth = labelled(examples, learner.classes)
    saved = learner.tensors(averaged=False)
    learner.module.load_state_dict(learner.tensors())
    try:
        parts = torch.split(torch.from_numpy(known.pixels), batch)
        guess = torch.cat([learner.logits(part).argmax(1).cpu() for part in parts])
    finally:
        learner.module.load_state_dict(saved)
    return wilson(int((guess == truth).sum()), len(truth), 1 / len(learner.classes))
