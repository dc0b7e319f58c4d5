"""Erase what a classifier learned from some training samples, without training again.

From the weights theta* of the training on D, with the traced samples C of it:

    loss(theta) = mean over C of -log(1 - p(y | x, theta))             C is unlearned: y is the label of the training
                + hold * mean over kept of KL(p(x, theta*) || p(x, theta))        kept: of D without C, right before
                + strength / 2 sum_i (F_i + 1e-4) (theta_i - theta*_i)^2          F of the same samples

The first term raises the loss on C and saturates: once p(y) is near 0 its gradient is, too, where -log p(y) would grow
without bound. Source: 2207.04806, which maximises -log p(C | theta) under the Gaussian posterior around theta* (the
Fisher penalty); the bounded form and the batches of kept samples are ours. Without these batches a model forgets, and
may call nearly everything the other class (`kept_batches=False` is that control). A batch has as many kept samples of
each class, for the same reason. Early stopping reads validation failures and kept samples of each
class; weights are averaged over steps.
When to use: after `trace`, for weights tonight; drop C from the data and train again for those of tomorrow.
Cost: up to `steps` updates of `batch` + `kept` samples, a forward pass of the kept ones with theta*, and F once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import kl_div, one_hot

from curation.core.errors import UserError
from curation.core.ranges import check_count
from curation.diagnosis.consolidation import consolidate
from curation.diagnosis.outcomes import Outcome
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.repair import RepairSettings, by_class, tune_and_judge
from curation.diagnosis.repair_samples import RepairSamples
from curation.diagnosis.tuning import Step, TunedClassifier

MOST_SHARE = 0.5  # of a class that C may hold


@dataclass(frozen=True, kw_only=True)
class EraseSettings(RepairSettings):
    """How samples are erased. batch: samples of C a step; kept: kept samples a step; hold: weight of their term."""

    each: bool = True
    steps: int = 60
    batch: int = 16
    fisher: int = 500
    strength: float = 1000.0
    kept: int = 96
    hold: float = 10.0
    kept_batches: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("kept", self.kept, "it is the number of kept samples of an update", least=1)
        if not 0 <= self.hold < float("inf"):
            raise ValueError(f"hold is {self.hold}: it is at least 0 and finite")


def erase(
    classifier: TunedClassifier, samples: RepairSamples, causes: LabelledPictures, classes: Sequence[str],
    settings: EraseSettings = EraseSettings(),
) -> Outcome:  # fmt: skip
    """Erase samples from a classifier, in place, and judge it.

    causes: C, with the labels that it was trained with. samples: none of C is among them. classes: in the order of the
    logits.
    """
    began = time.monotonic()
    kept = samples.right["query"]
    some = kept.take(range(min(len(kept), settings.fisher)))
    held = consolidate(classifier, some, settings.strength)
    before = TunedClassifier(deepcopy(classifier.module), classifier.normalise)

    def objective(step: Step) -> Tensor:
        (pixels, labels), *rest = step
        logits = classifier.logits(pixels)
        loss = unlearned(logits, labels.to(logits.device)) + held.penalty(classifier.module)
        if rest:
            shown = torch.cat([part for part, _ in rest])
            with torch.no_grad():
                wanted = before.logits(shown).log_softmax(1)
            now = classifier.logits(shown).log_softmax(1)
            loss = loss + settings.hold * kl_div(now, wanted, reduction="batchmean", log_target=True)
        return loss

    groups = by_class(kept, settings.kept) if settings.kept_batches else []
    sizes = [settings.batch, *(max(1, settings.kept // len(groups)) for _ in groups)]
    counts = {"trained": 0, "fisher": len(some), "judged": 0}
    spent = time.monotonic() - began
    found = tune_and_judge("erase", classifier, samples, classes, objective, [causes, *groups], sizes, counts, settings)
    shown = found.checks[-1].step * sum(min(size, len(group)) for size, group in zip(sizes[1:], groups, strict=True))
    counts = {**found.counts, "judged": found.counts["judged"] + shown}
    return replace(found, counts=counts, seconds=found.seconds + spent)


def unlearned(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log(1 - p(label)): the loss of any other answer. logits `[N, K]`, labels int64 `[N]`."""
    own = one_hot(labels, logits.shape[1]).bool()
    others = logits.log_softmax(1).masked_fill(own, -torch.inf).logsumexp(1)
    return -others.mean()


def expect_few(causes: LabelledPictures, samples_of: Mapping[int, int], classes: Sequence[str]) -> None:
    """Raise `UserError` where C holds more than half of a class. samples_of: class -> samples of the data, with C."""
    for number, count in sorted(samples_of.items()):
        own = int((causes.targets == number).sum())
        if own > MOST_SHARE * count:
            text = f"the drops are {own:,} of the {count:,} samples of class {classes[number]}: more than half"
            raise UserError(text, fix="trace fewer samples (--count), and look at them: curate edits show DROPS")
