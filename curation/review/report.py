"""The report of a queue: what the answers changed, what they cost, how far reviewers agree, and what they corrected.

With true labels, it says which labels were fixed, made worse and left; without, which were changed and confirmed. One
pass over the answers (`status.states`), which holds those of 1,000 items, counts for each class and reviewer, and with
true labels 13 bytes an answer. An answer that is damaged is a finding and has no effect, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from curation.annotators.attribution import Kind, kind_of, who_answered
from curation.annotators.true_labels import TrueLabels
from curation.core.progress import Tick
from curation.review.agreement import PairedLabels
from curation.review.answer_curve import CurveSums
from curation.review.findings import QueueFinding
from curation.review.orders import places_asked
from curation.review.queue import Queue
from curation.review.report_facts import (
    JUDGEMENTS,
    NO_CLASS,
    OUTCOMES,
    Correction,
    Judgement,
    Outcome,
    ReviewerCounts,
    ReviewReport,
)
from curation.review.status import ItemState, QueueStatus, states

MOST_CORRECTIONS = 10
MOST_FINDINGS = 20


def report_of(queue: Queue, truth: TrueLabels | None = None, tick: Tick = lambda n: None) -> ReviewReport:
    """Return the report of a queue. truth: true labels by uid, of as many items as are known."""
    sums = _Sums(queue, truth)
    for state in states(queue, tick):
        sums.add(state)
    return sums.report()


@dataclass
class _Sums:
    """The counts of a report, while the answers are read."""

    queue: Queue
    truth: TrueLabels | None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    judgements: Counter[Judgement] = field(default_factory=Counter)
    classes: dict[str, Counter[str]] = field(default_factory=dict)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reviewers: dict[str, ReviewerCounts] = field(default_factory=dict)
    paired: PairedLabels = field(default_factory=PairedLabels)
    corrections: list[Correction] = field(default_factory=list)
    examples: list[QueueFinding] = field(default_factory=list)

    def __post_init__(self) -> None:
        document = self.queue.document
        self.status = QueueStatus(budget=document.budget)
        self.curve = CurveSums(document.current_votes)
        self.labels = self.queue.items.column("label").to_pylist()
        self.uids = self.queue.items.column("uid") if self.truth else None

    def add(self, state: ItemState) -> None:
        """Count an item."""
        self.status.add(state)
        self.examples += state.findings[: MOST_FINDINGS - len(self.examples)]
        self.paired.add(state.votes.labels)
        before: str | None = self.labels[state.item]
        now = before if state.winner is None else state.winner
        truth = None
        if self.truth is not None and self.uids is not None:
            truth = self.truth.labels.get(self.uids[state.item].as_py())
            self.curve.add(state, before, truth)
        outcome = _outcome(state)
        self.outcomes[outcome] += 1
        group = self.classes.setdefault(state.current or NO_CLASS, Counter())
        group[outcome] += 1
        if truth is not None:
            judgement = _judgement(before == truth, now == truth)
            self.judgements[judgement] += 1
            group[judgement] += 1
        if outcome == "changed" and state.winner is not None:
            self.changes[state.current or NO_CLASS, state.winner] += 1
            if len(self.corrections) < MOST_CORRECTIONS:
                self.corrections.append(self._correction(state, before, state.winner, truth))
        self._count_reviewers(state, truth)

    def _count_reviewers(self, state: ItemState, truth: str | None) -> None:
        for name, label in state.votes.labels.items():
            one = self._reviewer(name)
            one.labels += 1
            one.decided += state.winner is not None
            one.agreeing += state.winner == label
            one.judged += truth is not None
            one.correct += truth == label
        for name in state.votes.cannot_tell:
            self._reviewer(name).cannot_tell += 1

    def _reviewer(self, name: str) -> ReviewerCounts:
        found = self.reviewers.get(name)
        if found is None:
            found = self.reviewers[name] = ReviewerCounts(kind_of(name))
        return found

    def _correction(self, state: ItemState, before: str | None, after: str, truth: str | None) -> Correction:
        row, votes = self.queue.row(state.item), state.votes
        best = [(one["label"], one["probability"]) for one in row["best"] or ()]
        counts, caption = dict(Counter(votes.labels.values()).most_common()), row["caption"] or ""
        tied = len(votes.cannot_tell)
        return Correction(
            state.item, row["uid"], caption, before, after, truth, row["priority"], best, counts, tied
        )  # fmt: skip

    def report(self) -> ReviewReport:
        """Return the report."""
        order = [*self.queue.document.classes, NO_CLASS]
        kinds = Counter[Kind]()
        for one in self.reviewers.values():
            kinds[one.annotator] += one.labels + one.cannot_tell
        known = self.truth is not None
        return ReviewReport(
            url=self.queue.store.url,
            queue=self.queue.sha256,
            ranked_by=self.queue.document.ranking.by,
            annotators=who_answered(self.reviewers),
            status=self.status,
            outcomes={name: self.outcomes[name] for name in OUTCOMES},
            judgements={name: self.judgements[name] for name in JUDGEMENTS} if known else None,
            truth_flaws=self.truth.flaws if self.truth else {},
            kinds=kinds,
            classes={name: self._class(name) for name in order if name in self.classes},
            changes=dict(sorted(self.changes.items(), key=lambda change: (-change[1], change[0]))),
            reviewers=dict(sorted(self.reviewers.items(), key=_most_answers)),
            agreement=self.paired.agreement(),
            curve=self.curve.curve(places_asked(self.queue)) if known else None,
            corrections=self.corrections,
            examples=self.examples,
        )

    def _class(self, name: str) -> dict[str, int]:
        counts = self.classes[name]
        names: tuple[str, ...] = (*OUTCOMES, *JUDGEMENTS) if self.truth is not None else OUTCOMES
        return {"items": sum(counts[name] for name in OUTCOMES), **{name: counts[name] for name in names}}


def _outcome(state: ItemState) -> Outcome:
    if state.state == "answered":
        return "confirmed" if state.winner == state.current else "changed"
    return state.state


def _judgement(was_right: bool, is_right: bool) -> Judgement:
    if is_right:
        return "right" if was_right else "fixed"
    return "worse" if was_right else "left"


def _most_answers(entry: tuple[str, ReviewerCounts]) -> tuple[int, str]:
    return -(entry[1].labels + entry[1].cannot_tell), entry[0]
