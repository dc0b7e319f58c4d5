"""When an item is answered: its votes, the class that is strictly ahead, and what each answer costs.

A reviewer has at most one answer in effect to an item: a label or `cannot_tell`. An `undo` takes it back, and costs
nothing. The current label counts as `current_votes` votes (0 or 1): with 1, one reviewer confirms a label, and two who
agree overrule it (Bernhardt et al., 2109.00574: labels are drawn until a majority forms, the given label included).

    answered   at least one label, and one class strictly ahead
    refused    not answered, and at least one reviewer cannot tell
    open       all others

So open + answered + refused = items, at every moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from curation.review.documents import AnswerRecord, QueueDocument
from curation.review.findings import QueueFinding

State = Literal["open", "answered", "refused"]
STATES: tuple[State, ...] = ("open", "answered", "refused")


class StoredAnswer(NamedTuple):
    """An answer as it is stored. `record` is None for one that is damaged, and `detail` says why."""

    item: int
    reviewer: str
    n: int
    key: str
    record: AnswerRecord | None
    detail: str = ""


@dataclass
class ItemVotes:
    """The answers in effect to one item.

    `last`: reviewer -> number of the reviewer's last record. `times`: reviewer -> time of the answer in effect, if it
    has one.
    """

    labels: dict[str, str] = field(default_factory=dict)
    cannot_tell: set[str] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)

    @property
    def spent(self) -> int:
        """What the item has cost of the budget: one for each answer in effect."""
        return len(self.labels) + len(self.cannot_tell)

    def has(self, reviewer: str) -> bool:
        """Whether the reviewer has an answer in effect."""
        return reviewer in self.labels or reviewer in self.cannot_tell

    def set(self, record: AnswerRecord) -> None:
        """Let a record take effect."""
        self.last[record.reviewer] = max(record.n, self.last.get(record.reviewer, 0))
        self.labels.pop(record.reviewer, None)
        self.cannot_tell.discard(record.reviewer)
        self.times.pop(record.reviewer, None)
        if record.label is not None:
            self.labels[record.reviewer] = record.label
        elif record.kind == "cannot_tell":
            self.cannot_tell.add(record.reviewer)
        if record.at and record.kind != "undo":
            self.times[record.reviewer] = record.at

    def leader(self, current: str | None, current_votes: int) -> str | None:
        """Return the class that is strictly ahead, counting the current label; None without an answer or in a tie."""
        if not self.labels:
            return None
        counts = Counter(self.labels.values())
        if current is not None and current_votes:
            counts[current] += current_votes
        (first, most), *others = counts.most_common(2)
        return first if not others or most > others[0][1] else None

    def state(self, current: str | None, current_votes: int) -> State:
        """Return the state of the item with this current label."""
        if self.leader(current, current_votes) is not None:
            return "answered"
        return "refused" if self.cannot_tell else "open"


def counted_label(label: str | None, classes: Container[str]) -> str | None:
    """Return the current label if it counts as a vote: it is one of the classes."""
    return label if label is not None and label in classes else None


def fold(document: QueueDocument, queue: str, answers: Sequence[StoredAnswer]) -> tuple[ItemVotes, list[QueueFinding]]:
    """Return the answers in effect among all records of one item, and what is wrong with the others.

    queue: the queue's sha256. Records that are wrong have no effect; the order of `answers` does not matter.
    """
    votes, findings = ItemVotes(), list[QueueFinding]()
    classes = set(document.classes)
    for answer in sorted(answers, key=lambda answer: (answer.reviewer, answer.n)):
        expected = votes.last.get(answer.reviewer, 0) + 1
        votes.last[answer.reviewer] = answer.n
        if answer.n != expected:
            text = f"answer {answer.n} of {answer.reviewer} follows no answer {expected}"
            findings.append(QueueFinding(answer.item, "lost_answer", text, answer.key))
        flaw = _flaw(answer, document, queue, votes, classes)
        if flaw is not None:
            findings.append(QueueFinding(answer.item, *flaw, answer.key))
        elif answer.record is not None:
            votes.set(answer.record)
    return votes, findings


def _flaw(
    answer: StoredAnswer, document: QueueDocument, queue: str, votes: ItemVotes, classes: set[str]
) -> tuple[str, str] | None:
    """Return reason and detail of a record that has no effect; None for a sound one."""
    record = answer.record
    if record is None:
        return "bad_answer", answer.detail
    if (record.item, record.reviewer, record.n) != (answer.item, answer.reviewer, answer.n):
        return "bad_answer", "its fields name another item, reviewer or number than its key"
    if record.queue != queue:
        return "foreign_queue", f"it answers the queue {record.queue[:16]}, not {queue[:16]}"
    if answer.item >= document.items.rows:
        return "unknown_item", f"the queue has items 0 to {document.items.rows - 1}"
    if record.label is not None and record.label not in classes:
        return "unknown_class", f"{record.label[:80]!r} is none of the {len(classes)} classes"
    if record.kind == "undo":
        return None if votes.has(record.reviewer) else ("no_answer_to_undo", f"{record.reviewer} has no answer")
    if votes.has(record.reviewer):
        return "answered_twice", f"{record.reviewer} has an answer to this item; the first one counts"
    return None
