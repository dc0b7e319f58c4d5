"""What the repair and the erase part share: their samples, and shares of right answers."""

from __future__ import annotations

import torch
from bench.diagnosis.planted import Planted, failures
from torch import Tensor

from curation.diagnosis.failures import part_of
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.repair_samples import RepairSamples
from curation.diagnosis.tuning import TunedClassifier

SIDES = ("other", "own")  # classes: 0, which the planted labels claim, and 1, the marked pictures' own


def asked(planted: Planted) -> int:
    """Return the number of the cause that is asked for: in turn, by seed."""
    return 1 + planted.seed % len(planted.causes)


def samples_of(planted: Planted, without: Tensor) -> RepairSamples:
    """Return the failures of the asked cause, and samples that the failing model is right about.

    Training samples are tuned on and decide when to stop; those at the rows `without` are left out. Pictures of the
    field, which no model was trained on and whose labels are true, judge.
    """
    classifier, training = TunedClassifier.of(planted.subject), planted.training
    usable = classifier.right(training)
    usable[without] = False
    rows = usable.nonzero()[:, 0].tolist()
    right = {
        part: training.take([row for row in rows if part_of(training.uids[row], 0) == part])
        for part in ("query", "validation")
    }
    right["held_out"] = planted.field.take(classifier.right(planted.field).nonzero()[:, 0])
    return RepairSamples(failures(planted, planted.causes[asked(planted) - 1].name), right, {})


def share(right: Tensor) -> float:
    """Return the share of true values."""
    return float(right.double().mean())


def kept(classifier: TunedClassifier, before: LabelledPictures) -> dict[str, float]:
    """Return the share of right pictures, of all and of each class."""
    right = classifier.right(before)
    sides = {f"kept {side}": share(right[before.targets == number]) for number, side in enumerate(SIDES)}
    return {"kept": share(right), **sides}


def with_weights(planted: Planted, weights: dict[str, Tensor]) -> TunedClassifier:
    """Return the failing model with other weights."""
    classifier = TunedClassifier.of(planted.subject)
    classifier.module.load_state_dict(weights)
    return classifier


def rows_of(flags: Tensor) -> Tensor:
    """Return the rows of true values."""
    return torch.nonzero(flags)[:, 0]
