"""The facts of a queue's report: outcomes, judgements by known truth, agreement, cost, and the top corrections.

`report.report_of` computes them; text, JSON and the page show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from curation.annotators.attribution import Kind
from curation.review.agreement import Agreement
from curation.review.answer_curve import AnswerCurve
from curation.review.findings import QueueFinding
from curation.review.status import QueueStatus

Outcome = Literal["changed", "confirmed", "open", "refused"]
Judgement = Literal["fixed", "worse", "left", "right"]
OUTCOMES: tuple[Outcome, ...] = ("changed", "confirmed", "open", "refused")
JUDGEMENTS: tuple[Judgement, ...] = ("fixed", "worse", "left", "right")
NO_CLASS = "(no class)"  # of items without a label, or with one that is none of the queue's classes


class Correction(NamedTuple):
    """An item whose label changes.

    `best`: the proxy's most probable classes; `votes`: class -> reviewers who named it.
    """

    item: int
    uid: str
    caption: str
    before: str | None
    after: str
    truth: str | None
    priority: float | None
    best: Sequence[tuple[str, float]]
    votes: Mapping[str, int]
    cannot_tell: int


@dataclass
class ReviewerCounts:
    """What one reviewer did. agreeing: labels that equal the outcome, of `decided`; correct: the truth, of `judged`."""

    annotator: Kind
    labels: int = 0
    cannot_tell: int = 0
    decided: int = 0
    agreeing: int = 0
    judged: int = 0
    correct: int = 0


@dataclass(frozen=True, kw_only=True)
class ReviewReport:
    """A queue's report.

    annotators: what every figure must say of who answered (`who_answered`). outcomes: changed + confirmed + open +
    refused = items. judgements: None without true labels, else fixed (wrong before, right now), worse (right before,
    wrong now), left (wrong before and now) and right (before and now), of `known` items. classes: by current label, the
    counts of outcomes and judgements. changes: (label before, label now) -> items. corrections: the changed items of
    the highest ranks. curve: None without true labels. examples: the first findings.
    """

    url: str
    queue: str
    ranked_by: str
    annotators: str
    status: QueueStatus
    outcomes: Mapping[str, int]
    judgements: Mapping[str, int] | None
    truth_flaws: Mapping[str, int]
    kinds: Mapping[Kind, int]
    classes: Mapping[str, Mapping[str, int]]
    changes: Mapping[tuple[str, str], int]
    reviewers: Mapping[str, ReviewerCounts]
    agreement: Agreement
    curve: AnswerCurve | None
    corrections: Sequence[Correction]
    examples: Sequence[QueueFinding]

    @property
    def known(self) -> int:
        """Items whose truth is known."""
        return sum((self.judgements or {}).values())

    @property
    def correct(self) -> tuple[int, int]:
        """Correct labels before and now, of the `known` items."""
        found = Counter(self.judgements)
        return found["worse"] + found["right"], found["fixed"] + found["right"]

    @property
    def cost(self) -> Mapping[str, float | None]:
        """Answers for each changed label, and with true labels for each label that was fixed, less those made worse."""
        found: dict[str, float | None] = {"changed": _ratio(self.status.spent, self.outcomes["changed"])}
        if self.judgements is not None:
            found["corrected"] = _ratio(self.status.spent, self.judgements["fixed"] - self.judgements["worse"])
        return found

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON. Every object with a figure has the field `annotators`."""
        by = {"annotators": self.annotators}
        truth: dict[str, Any] | None = None
        curve: dict[str, Any] | None = None
        if self.judgements is not None:
            before, now = self.correct
            truth = {**by, "known": self.known, "correct_before": before, "correct_now": now}
            truth |= {**self.judgements, "flaws": dict(self.truth_flaws)}
        if self.curve is not None:
            curve = {**by, **asdict(self.curve), "points": [point._asdict() for point in self.curve.points]}
        cost = {**by, "answers": self.status.spent, "budget": self.status.budget, "by_annotator": dict(self.kinds)}
        examples = [finding.to_json() for finding in self.examples]
        return {
            "queue": self.queue,
            **by,
            "ranked_by": self.ranked_by,
            "outcomes": {**by, "items": self.status.items, **self.outcomes},
            "truth": truth,
            "cost": {**cost, **{f"answers_per_{name}_label": value for name, value in self.cost.items()}},
            "agreement": {**by, "measure": "krippendorff_alpha_nominal", **asdict(self.agreement)},
            "curve": curve,
            "classes": [{**by, "label": name, **counts} for name, counts in self.classes.items()],
            "changes": [{**by, "before": a, "after": b, "items": n} for (a, b), n in self.changes.items()],
            "reviewers": [{**by, "reviewer": name, **asdict(one)} for name, one in self.reviewers.items()],
            "corrections": [{**by, **_correction(one)} for one in self.corrections],
            "findings": {**by, "counts": dict(sorted(self.status.findings.items())), "examples": examples},
        }


def _ratio(answers: int, labels: int) -> float | None:
    return answers / labels if labels > 0 else None


def _correction(one: Correction) -> dict[str, Any]:
    best = [{"label": label, "probability": round(share, 4)} for label, share in one.best]
    return {**one._asdict(), "best": best, "votes": dict(one.votes)}
