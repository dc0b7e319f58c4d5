"""ClassAct: pictures to classes, with the cross-entropy everywhere.

When to use: samples have labels (a field of their json) rather than captions. The model is the image tower of any
architecture that `curate proxy ls --all` lists, with a linear head over its features. The cross-entropy of a sample is
also its score: l(x | theta) = -log softmax(W f(x) + c)_y. Source: 2312.05328, section 3 and its JFT experiments.

A batch that does not fit into memory is trained in parts (`micro_batch`) whose gradients add up: the same update.
Cost of a step: three forward passes' FLOPs of the image tower for each sample; no text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from curation.core.errors import EmptyCorpusError, UserError
from curation.core.intervals import HitRate, wilson
from curation.learners.learner import Learner, Training, TrainingView
from curation.models.architecture import build_model, model_config
from curation.models.batches import Examples, SuperBatch
from curation.models.model_outputs import Losses


class Classifier(nn.Module):
    """An image tower and a linear head: pixels float `[N, 3, S, S]` to logits `[N, classes]`."""

    def __init__(self, model: str, classes: int) -> None:
        super().__init__()
        clip: Any = build_model(model)
        self.visual = clip.visual
        self.head = nn.Linear(int(model_config(model)["embed_dim"]), classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.visual(pixels))
        return logits


class ClassLearner(Learner):
    """A classifier under training. `classes`: their names; a batch's targets are places in it.

    One that was trained on other labels can be asked in the terms of today's, `asked`: targets then are places among
    these. Of a class that it does not know it makes a guess, each of its own being as likely: a loss of log(classes).
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
        place = {name: number for number, name in enumerate(self.classes)}
        self._places = None if asked is None else torch.tensor([place.get(name, -1) for name in asked])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            module = Classifier(model, len(self.classes))
        super().__init__(model, module, training, device)

    @torch.no_grad()
    def outputs(self, candidates: SuperBatch) -> Losses:
        """Cross-entropies of candidates as the model is now. Changes nothing."""
        pixels, classes = (self.on_device(part) for part in candidates.batch)
        with self.autocast():
            logits = self.in_parts(lambda some: self.glance(some, self.module), pixels).float()
        if self._places is None:
            return Losses(cross_entropy(logits, classes, reduction="none"))
        own = self._places.to(classes.device)[classes]
        losses = cross_entropy(logits, own.clamp_min(0), reduction="none")
        return Losses(torch.where(own < 0, math.log(len(self.classes)), losses))

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """float32 `[N, classes]` for uint8 `[N, S, S, 3]`, with the weights of training."""
        with self.autocast():
            logits: Tensor = self.module(self._normalise(self.on_device(pixels))).float()
        return logits

    def _encode(self, pixels: Tensor, targets: Tensor, small: Tensor) -> Tensor:
        with self.autocast():
            logits = self.look(pixels, small, self.module)
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


def classes_of(labels: Iterable[str], least: int = 2) -> list[str]:
    """The classes of a corpus: labels of at least `least` samples, by name. They may be counted already."""
    counts = Counter(labels)
    found = sorted(label for label, count in counts.items() if label and count >= least)
    if len(found) < 2:
        text = f"the samples have {len(found)} labels that at least {least} of them share"
        raise EmptyCorpusError(text, fix="name the json field that holds the class: learner.classification.label")
    return found


def labelled(examples: Examples, classes: Sequence[str]) -> tuple[Examples, Tensor]:
    """The samples whose label is one of the classes, and its place among them, int64 `[N]`."""
    rows = known_rows(examples, classes)
    if not rows:
        raise UserError("no sample has a label that the classifier knows", fix="train on data with the same labels")
    known = examples.take(rows)
    return known, targets_of(known, classes)


def known_rows(examples: Examples, classes: Sequence[str]) -> list[int]:
    """The rows whose label is one of the classes."""
    known = set(classes)
    return [row for row, label in enumerate(examples.labels) if label in known]


def targets_of(examples: Examples, classes: Sequence[str]) -> Tensor:
    """The place of each label among the classes, int64 `[N]`; every label is one of them."""
    place = {name: number for number, name in enumerate(classes)}
    return torch.tensor([place[label] for label in examples.labels])


def accuracy(learner: ClassLearner, examples: Examples, batch: int = 256) -> HitRate:
    """Share of samples whose likeliest class is theirs, with the weights as they are (averaged where they are)."""
    known, truth = labelled(examples, learner.classes)
    saved = learner.tensors(averaged=False)
    learner.module.load_state_dict(learner.tensors())
    try:
        parts = torch.split(torch.from_numpy(known.pixels), batch)
        guess = torch.cat([learner.logits(part).argmax(1).cpu() for part in parts])
    finally:
        learner.module.load_state_dict(saved)
    return wilson(int((guess == truth).sum()), len(truth), 1 / len(learner.classes))
