"""Repair a classifier: fine-tune it on its failures until they are right, and stop before it forgets the rest.

    failures   cross-entropy of the failures, with the expected answers
    mixed      the same, plus the cross-entropy of as many samples that were right
    ewc        the same as `failures`, plus the penalty of elastic weight consolidation (`consolidation`)

When to use: tonight, while the data set is corrected for the next training. Source: 2109.12347, repair. Its EWC has
strength 1,000, which held nothing in trials here (F of a small model is near 1e-4), so the default is 100,000. Early
stopping (`stopping`) reads validation failures and other correct samples; held-out failures and a third draw of
correct samples judge. Training data that caused the failures are among the correct samples while nobody knows them:
they pull back, and what is kept is undercounted. `erase` is for causes that are known.
Cost: up to `steps` updates of `batch` samples, twice as many for `mixed`; for `ewc` F of `fisher` samples, each as long
as four in an update.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from curation.core.ranges import check, check_count, check_seed
from curation.diagnosis.consolidation import MOST_SAMPLES, consolidate
from curation.diagnosis.outcomes import Outcome
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.repair_samples import RIGHT, RepairSamples, judge
from curation.diagnosis.stopping import EarlyStopping, balanced
from curation.diagnosis.tuning import Step, TunedClassifier, batches, tune

STRATEGIES = ("failures", "mixed", "ewc")
CHECKED = 300  # correct samples of a check, as evenly from all classes as there are
CHECKED_FAILURES = 100  # validation failures of a check, by uid
EVERY = 5  # steps between two checks
AVERAGE = 0.9  # decay of the moving average of the weights


@dataclass(frozen=True, kw_only=True)
class RepairSettings:
    """How weights are tuned. keep: the least share of correct samples that stays right, of each class where `each`.

    steps: at most. batch: failures a step, and as many correct samples. strength: of EWC. fisher: samples of its F.
    enough: share of the validation failures at which tuning ends. right: correct samples drawn from the data, a half to
    tune on. Raises `ValueError`, which names the field.
    """

    lr: float = 3e-4
    steps: int = 200
    batch: int = 32
    strength: float = 1e5
    fisher: int = 2000
    keep: float = 0.93
    enough: float = 0.95
    each: bool = False
    right: int = RIGHT
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, what in (
            ("steps", 1, "updates at most"), ("batch", 1, "failures of an update"), ("right", 20, "correct samples"),
        ):  # fmt: skip
            check_count(name, getattr(self, name), f"it is the number of {what}", least=least)
        check("fisher", self.fisher, "it is the number of samples of F", least=1, most=MOST_SAMPLES)
        check_seed(self.seed)
        for name, good, what in (
            ("lr", 0 < self.lr <= 1, "above 0, at most 1"), ("keep", 0 <= self.keep <= 1, "a share from 0 to 1"),
            ("enough", 0 < self.enough <= 1, "a share above 0"),
            ("strength", 0 <= self.strength < float("inf"), "at least 0 and finite"),
        ):  # fmt: skip
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}: it is {what}")


def repair(
    classifier: TunedClassifier, samples: RepairSamples, classes: Sequence[str], strategy: str,
    settings: RepairSettings = RepairSettings(),
) -> Outcome:  # fmt: skip
    """Tune a classifier by one strategy, in place, and judge it. classes: in the order of the logits."""
    began, tuned, right = time.monotonic(), samples.failures["query"], samples.right["query"]
    rows, counts = settings.batch, {"trained": 0, "fisher": 0, "judged": 0}
    objective: Callable[[Step], Tensor]
    if strategy == "ewc":
        held = consolidate(classifier, right.take(range(min(len(right), settings.fisher))), settings.strength)
        counts["fisher"] = min(len(right), settings.fisher)

        def objective(step: Step) -> Tensor:
            return answers(classifier, step) + held.penalty(classifier.module)
    else:

        def objective(step: Step) -> Tensor:
            return answers(classifier, step)

    groups = by_class(right, rows) if strategy == "mixed" else []
    sources, sizes = [tuned, *groups], [rows, *(max(1, rows // len(groups)) for _ in groups)]
    spent = time.monotonic() - began
    found = tune_and_judge(strategy, classifier, samples, classes, objective, sources, sizes, counts, settings)
    return replace(found, seconds=found.seconds + spent)


def answers(classifier: TunedClassifier, step: Step) -> Tensor:
    """Return the mean cross-entropy of the first source of a step, plus that of all others together."""
    (pixels, wanted), *rest = step
    loss = cross_entropy(classifier.logits(pixels), wanted.to(pixels.device))
    if rest:
        shown, answers = (torch.cat(parts) for parts in zip(*rest, strict=True))
        loss = loss + cross_entropy(classifier.logits(shown), answers.to(shown.device))
    return loss


def tune_and_judge(
    name: str, classifier: TunedClassifier, samples: RepairSamples, classes: Sequence[str],
    objective: Callable[[Step], Tensor], sources: Sequence[LabelledPictures], sizes: Sequence[int],
    counts: dict[str, int], settings: RepairSettings,
) -> Outcome:  # fmt: skip
    """Tune on batches of `sizes` samples of `sources` with early stopping, restore the best weights and judge them.

    counts: as of `Outcome`, of what was done before.
    """
    began = time.monotonic()
    validation = samples.failures["validation"]
    right = samples.right["validation"]
    kept = balanced(right, CHECKED) if settings.each else right.take(range(min(len(right), CHECKED)))
    stop = EarlyStopping(
        classifier, validation.take(range(min(len(validation), CHECKED_FAILURES))),
        kept, least=settings.keep, each=settings.each, enough=settings.enough,
        average=AVERAGE,
    )  # fmt: skip
    steps = tune(
        classifier, batches(sources, sizes, settings.seed), objective, lr=settings.lr, most=settings.steps,
        stop=stop, every=EVERY, after_step=stop.follow,
    )  # fmt: skip
    if stop.checks[-1].step < steps:
        stop(steps)
    best = stop.restore()
    trained = steps * sum(min(size, len(source)) for source, size in zip(sources, sizes, strict=True))
    counts = {**counts, "trained": trained, "judged": counts["judged"] + stop.judged}
    seconds = time.monotonic() - began
    after = judge(classifier, samples, list(classes))
    return Outcome(name, classifier.weights(), best, stop.checks, after, counts, seconds)


def by_class(pictures: LabelledPictures, most: int) -> list[LabelledPictures]:
    """Return the pictures of each class that there is, or all as one group where there are more classes than `most`."""
    numbers = sorted(set(pictures.targets.tolist()))
    if len(numbers) > most:
        return [pictures]
    return [pictures.take(torch.nonzero(pictures.targets == number)[:, 0]) for number in numbers]
