"""Failures with hidden classes: two visible classes of CIFAR pictures, four of whose hidden classes are nearly absent.

Each visible class has five hidden ones, two vehicles or three animals of it among them; of two of the five the model
sees `FEW` training pictures, of the others `TRAINED`. It fails on the nearly absent ones in use: what types of failures
should find. The split follows from the seed: training, field (where failures are found), pool (to collect from). With
classes grouped at random no way of grouping led clearly (seed 10); one nearly absent vehicle and animal a side came
after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from bench.diagnosis.planted import EPOCHS, MODEL, hashes, trained
from bench.diagnosis.worlds import SIDE
from bench.labels import cifar10h
from torch import Tensor

from curation.diagnosis.failures import split
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.subject import Subject
from curation.diagnosis.tuning import TunedClassifier

CLASSES = ("first", "second")
VEHICLES, ANIMALS = (0, 1, 8, 9), (2, 3, 4, 5, 6, 7)
TRAINED, FEW, FIELD = 450, 8, 150  # pictures of a hidden class: trained on; of a nearly absent one; in the field
FIELD_OF_ABSENT = 500


@dataclass(frozen=True)
class Hidden:
    """A failing model and its data. hidden: the hidden class of every picture, by uid."""

    subject: Subject
    training: LabelledPictures
    field: LabelledPictures
    pool: LabelledPictures
    hidden: dict[str, int]


@lru_cache(1)
def hide(seed: int) -> Hidden:
    """Return the failing model of a seed, trained unless its weights are in the folder of models."""
    pictures, _ = cifar10h.load()
    random = np.random.default_rng(seed)
    vehicles, animals = random.permutation(VEHICLES), random.permutation(ANIMALS)
    second = {*vehicles[2:].tolist(), *animals[3:].tolist()}
    absent = {int(vehicles[0]), int(vehicles[2]), int(animals[0]), int(animals[3])}
    parts: dict[str, list[np.ndarray]] = {"training": [], "field": [], "pool": []}  # type: ignore[type-arg]
    for number in range(10):
        rows = random.permutation(np.flatnonzero(pictures.truth == number))
        first, last = (FEW, FIELD_OF_ABSENT) if number in absent else (TRAINED, TRAINED + FIELD)
        for name, some in (("training", rows[:first]), ("field", rows[first:last]), ("pool", rows[last:])):
            parts[name].append(some)
    pixels = torch.from_numpy(pictures.pixels(SIDE))
    targets = torch.tensor([int(number in second) for number in pictures.truth.tolist()])

    def take(name: str) -> LabelledPictures:
        rows = np.sort(np.concatenate(parts[name]))
        return LabelledPictures([f"{row:05d}" for row in rows], pixels[rows], targets[rows])

    training = take("training")
    weights = trained(training, CLASSES, seed, f"hidden-{seed}", (EPOCHS,))[EPOCHS]
    hidden = {f"{row:05d}": int(number) for row, number in enumerate(pictures.truth)}
    return Hidden(Subject(MODEL, weights, CLASSES, "label"), training, take("field"), take("pool"), hidden)


@dataclass(frozen=True)
class Failed:
    """The failures in the field: pictures with the expected answers, the part of each; and what was right before."""

    pictures: LabelledPictures
    parts: Sequence[str]
    right: LabelledPictures

    def side(self, target: int) -> list[int]:
        """Return the rows of the failures whose expected answer is this class."""
        return torch.nonzero(self.pictures.targets == target)[:, 0].tolist()


def failed(world: Hidden, seed: int) -> Failed:
    """Return what the model gets wrong in the field, and training pictures that it gets right, in random order."""
    model = TunedClassifier.of(world.subject)
    wrong = world.field.take(torch.nonzero(~model.right(world.field))[:, 0])
    right = world.training.take(torch.nonzero(model.right(world.training))[:, 0])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(right)))
    return Failed(wrong, split(wrong.uids, hashes(wrong.pixels), seed), right.take(order))


def information(groups: Tensor, hidden: Tensor) -> float:
    """Return the mutual information of two labellings in nats. groups, hidden: int64 `[N]`."""
    joint = np.zeros((int(groups.max()) + 1, int(hidden.max()) + 1))
    np.add.at(joint, (groups.numpy(), hidden.numpy()), 1 / len(groups))
    product = joint.sum(1, keepdims=True) @ joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / product[some])).sum())
