"""Where a queue stands: the state of every item from one pass over the answers, and the counts of a queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curation.core.progress import Tick
from curation.review.findings import QueueFinding
from curation.review.queue import Queue
from curation.review.votes import STATES, ItemVotes, State, fold


class ItemState(NamedTuple):
    """The state of an item. `winner`: the class that is strictly ahead, of an answered item."""

    item: int
    state: State
    current: str | None
    winner: str | None
    votes: ItemVotes
    findings: list[QueueFinding]


def states(queue: Queue, tick: Tick = lambda n: None) -> Iterator[ItemState]:
    """Yield the state of every item in rank order. One pass over the answers; holds those of 1,000 items."""
    document = queue.document
    for page, answers in queue.answer_pages():
        for item in page:
            votes, findings = fold(document, queue.sha256, answers.get(item, ()))
            current = queue.labels[item]
            winner = votes.leader(current, document.current_votes)
            state = votes.state(current, document.current_votes)
            yield ItemState(item, state, current, winner, votes, findings)
        tick(len(page))


@dataclass
class QueueStatus:
    """Counts of a queue: open + answered + refused = items.

    spent: answers in effect, each of which costs one of the budget. confirmed, changed: answered items whose label
    stays, or is replaced. tied: open items that have labels, but no class ahead.
    """

    items: int = 0
    open: int = 0
    answered: int = 0
    refused: int = 0
    budget: int = 0
    spent: int = 0
    confirmed: int = 0
    changed: int = 0
    tied: int = 0
    reviewers: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)

    def add(self, found: ItemState) -> None:
        """Count an item."""
        self.items += 1
        setattr(self, found.state, getattr(self, found.state) + 1)
        self.spent += found.votes.spent
        if found.winner is not None:
            self.changed += found.winner != found.current
            self.confirmed += found.winner == found.current
        self.tied += found.state == "open" and bool(found.votes.labels)
        self.reviewers.update([*found.votes.labels, *found.votes.cannot_tell])
        self.findings.update(finding.reason for finding in found.findings)

    @property
    def left(self) -> int:
        """Answers that the budget still pays for."""
        return max(0, self.budget - self.spent)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        states_: dict[str, int] = {name: getattr(self, name) for name in STATES}
        return {
            "items": self.items, **states_, "confirmed": self.confirmed, "changed": self.changed, "tied": self.tied,
            "budget": self.budget, "spent": self.spent, "left": self.left,
            "reviewers": dict(sorted(self.reviewers.items())), "findings": dict(sorted(self.findings.items())),
        }  # fmt: skip


def status_of(queue: Queue, tick: Tick = lambda n: None) -> QueueStatus:
    """Count the items of a queue by their state, in one pass over the answers."""
    found = QueueStatus(budget=queue.document.budget)
    for state in states(queue, tick):
        found.add(state)
    return found
