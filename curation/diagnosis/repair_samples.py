"""Samples of a repair: failures to fix, and samples that the model is right about, both in three parts.

`query` is tuned on, `validation` decides when to stop and which strategy is best, and `held_out` judges: nothing that
was tuned on or chosen by is counted in a claim. Failures bring their parts with them; what was right is split by a hash
of the picture's bytes, so that copies are in one part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curation.core.errors import UserError
from curation.core.intervals import wilson
from curation.diagnosis.failures import SHARES, Failures, part_of
from curation.diagnosis.pictures import (
    LabelledPictures,
    Rows,
    draw_right,
    expect_own,
    labelled_pictures,
    unseen,
)
from curation.diagnosis.subject import CONTENT, Subject, SubjectScores
from curation.diagnosis.tuning import TunedClassifier, right_by_class, still_wrong
from curation.storage.store import open_store

RIGHT = 4000  # samples that the model is right about; half of them are tuned on
MOST_FAILURES = 2048  # of a part, by uid


@dataclass(frozen=True)
class RepairSamples:
    """Part -> failures with the expected answers; part -> samples that the model was right about.

    left_out: failures that are in neither part, by reason.
    """

    failures: Mapping[str, LabelledPictures]
    right: Mapping[str, LabelledPictures]
    left_out: Mapping[str, int]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of samples of each part."""
        both = {"failures": self.failures, "right": self.right}
        return {name: {part: len(some) for part, some in parts.items()} for name, parts in both.items()}

    def names(self) -> dict[str, Any]:
        """Return what determines them, for a fingerprint: uids and targets."""
        both = {"failures": self.failures, "right": self.right}
        return {
            name: {part: [list(some.uids), some.targets.tolist()] for part, some in parts.items()}
            for name, parts in both.items()
        }


def read_repair_samples(
    subject: Subject, failures: Failures, scored: SubjectScores, *, right: int = RIGHT, seed: int = 0,
    without: Collection[str] = (),
) -> RepairSamples:  # fmt: skip
    """Read the failures of a model, and a seeded draw of `right` samples of the scored data that it is right about.

    without: uids that are not drawn. Failures that the model is right about by now, whose picture is in the scored
    data, or that can't be read are left out and counted. Raises `UserError` for failures of another model, and where a
    part of either kind is empty.
    """
    expect_own(subject, failures)
    rows, options = failures.table.to_pylist(), scored.units.work.recipe.options
    fresh = unseen(rows, scored)
    store, classifier = open_store(failures.about["root"], options), TunedClassifier.of(subject, options=options)
    left_out, parts = Counter({"in_training_data": len(rows) - len(fresh)}), {}
    for part in SHARES:
        some = [row for row in fresh if row["part"] == part][:MOST_FAILURES]
        parts[part], others = still_wrong(classifier, subject, some, scored, store)
        left_out.update(others)
    reasons = {reason: count for reason, count in sorted(left_out.items()) if count}
    for part, pictures in parts.items():
        if not len(pictures):
            about = "".join(f", {count:,} {reason}" for reason, count in reasons.items())
            text = f"the failures have no sample in the part {part}{about}"
            raise UserError(text, fix="find more failures in data that the model was not trained on")
    avoided = frozenset(without)
    drawn = draw_right(subject, scored, right, seed=seed, without=avoided.__contains__)
    return RepairSamples(parts, _split(subject, drawn, scored, seed), reasons)


def _split(subject: Subject, rows: Rows, scored: SubjectScores, seed: int) -> dict[str, LabelledPictures]:
    found = {}
    for part in SHARES:
        some = [row for row in rows if part_of(str(row[CONTENT]), seed) == part]
        found[part], _ = labelled_pictures(subject, some, scored)
        if not len(found[part]):
            text = f"the model is right about {len(rows):,} samples of the data, too few for three parts"
            raise UserError(text, fix="name more data with the labels of the model, or a larger --right")
    return found


def judge(classifier: TunedClassifier, samples: RepairSamples, classes: list[str]) -> dict[str, Any]:
    """Return the share of right answers with its 95 % interval, over all classes and of each, by kind and part.

    `failures` that are right are fixed; samples of `right` that stay so are kept. Cost: a forward pass a sample.
    """
    both = {"failures": samples.failures, "right": samples.right}
    return {
        name: {part: _shares(classifier, some, classes) for part, some in parts.items()} for name, parts in both.items()
    }


def _shares(classifier: TunedClassifier, pictures: LabelledPictures, classes: list[str]) -> dict[str, Any]:
    right = classifier.right(pictures)
    by_class = {name: asdict(rate) for name, rate in right_by_class(right, pictures, classes).items()}
    return {**asdict(wilson(int(right.sum()), len(right), 1 / len(classes))), "by_class": by_class}
