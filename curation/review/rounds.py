"""Ask an annotator about the items of a queue until its budget is spent.

Items are asked about in rank order; an item takes labels until one class is strictly ahead. Every `every` answers, a
hook may return another order of the items, such as that of a proxy trained on the answers. Killed and repeated,
the loop continues: it reads the answers first, and a reply is a function of the question alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from curation.annotators import Annotator, Ask, Question, Reply
from curation.annotators.attribution import attributed
from curation.core.errors import ReasonError, UserError
from curation.core.progress import Tick
from curation.review.documents import AnswerRecord
from curation.review.findings import QueueFinding
from curation.review.queue import Queue
from curation.review.status import QueueStatus, states
from curation.review.votes import ItemVotes

#: From the votes so far (item -> votes) to the order in which items are asked about from now on.
Rerank = Callable[[Mapping[int, ItemVotes]], Sequence[int]]


@dataclass
class Rounds:
    """Items with their votes, and what is left of a budget. Works in memory; `record` stores each answer.

    uids, labels: of the items, by number; a label is None if it does not count as a vote. record: called with item and
    reply before the reply counts.
    """

    uids: Sequence[str]
    labels: Sequence[str | None]
    budget: int
    current_votes: int
    record: Callable[[int, Reply], None] = lambda item, reply: None
    votes: dict[int, ItemVotes] = field(default_factory=dict)
    findings: list[QueueFinding] = field(default_factory=list)
    spent: int = 0

    def winner(self, item: int) -> str | None:
        """Return the class that is strictly ahead; None for an item that is not answered."""
        return self.votes[item].leader(self.labels[item], self.current_votes) if item in self.votes else None

    def ask(
        self, ask: Ask, order: Sequence[int], *, every: int = 0, rerank: Rerank | None = None,
        tick: Tick = lambda n: None,
    ) -> None:  # fmt: skip
        """Ask until the budget is spent or no item is left. every: answers after which `rerank` is called; 0: never."""
        failed = set[int]()
        while order and self.spent < self.budget:
            stop = min(self.budget, self.spent - self.spent % every + every) if every else self.budget
            for item in order:
                if self.spent >= stop:
                    break
                if item not in failed and not self._settle(ask, item, tick):
                    failed.add(item)
            else:
                return
            if rerank is not None and self.spent < self.budget:
                order = rerank(self.votes)

    def _settle(self, ask: Ask, item: int, tick: Tick) -> bool:
        """Ask about an item until it is answered or the budget is spent. False if the annotator has no answer."""
        votes = self.votes.setdefault(item, ItemVotes())
        while self.spent < self.budget and self.winner(item) is None:
            try:
                reply = ask(Question(item, self.uids[item], votes.spent + 1))
            except ReasonError as error:
                self.findings.append(QueueFinding(item, error.reason, str(error)))
                return False
            self.record(item, reply)
            if reply.label is None:
                votes.cannot_tell.add(reply.reviewer)
            else:
                votes.labels[reply.reviewer] = reply.label
            self.spent += 1
            tick(1)
        return True


def annotate(
    queue: Queue, annotator: Annotator, *, every: int = 0, rerank: Rerank | None = None, tick: Tick = lambda n: None
) -> Rounds:  # fmt: skip
    """Let an annotator answer a queue until its budget is spent, and return the votes and findings.

    The answers are stored as they come. Raises `UserError` if the queue has other answers under the annotator's names.
    """
    uids = queue.items.column("uid").to_pylist()
    ask = annotator.open(queue.document.classes, uids)
    document = queue.document

    def record(item: int, reply: Reply) -> None:
        if queue.record(_answer(queue, item, reply)) == "taken":
            text = f"item {item} has another answer of {reply.reviewer}"
            raise UserError(text, fix="use the seed and the table of the first run, or build another queue")

    rounds = Rounds(uids, queue.labels, document.budget, document.current_votes, record)
    for state in states(queue):
        if state.votes.spent:
            rounds.votes[state.item] = state.votes
            rounds.spent += state.votes.spent
    rounds.ask(ask, range(len(uids)), every=every, rerank=rerank, tick=tick)
    return rounds


def _answer(queue: Queue, item: int, reply: Reply) -> AnswerRecord:
    kind = "label" if reply.label is not None else "cannot_tell"
    return queue.answer(kind, item, reply.reviewer, 1, reply.label)


def report_lines(about: str, status: QueueStatus) -> Iterator[str]:
    """Yield the lines of a report; each names who answered, because each has a figure."""
    lines = (
        f"{status.spent:,} of {status.budget:,} answers",
        f"{status.answered:,} of {status.items:,} items answered, {status.open:,} open",
        f"{status.confirmed:,} labels confirmed, {status.changed:,} to change",
    )
    return attributed(about, lines)
