"""Ask an annotator about the items of a queue until its budget is spent.

Items are asked about in rank order; an item takes labels until one class is strictly ahead. Every `every` answers, a
hook may return another order of the items, such as that of a proxy trained on the answers (`reranking`). Killed and
repeated, the loop continues: it reads the answers and the newest order first, and a reply is a function of the question
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from curation.annotators import Annotator, Ask, Question, Reply
from curation.annotators.attribution import attributed
from curation.core.errors import ReasonError, UserError
from curation.core.progress import Tick
from curation.review.documents import AnswerRecord
from curation.review.findings import QueueFinding
from curation.review.orders import Order, is_due, newest_order
from curation.review.queue import Queue
from curation.review.status import QueueStatus, states
from curation.review.votes import ItemVotes

#: From the votes so far (item -> votes) to the order in which items are asked about from now on; None: the same order.
Rerank = Callable[[Mapping[int, ItemVotes]], Sequence[int] | None]


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
        self, ask: Ask, order: Iterable[int], *, every: int = 0, rerank: Rerank | None = None,
        tick: Tick = lambda n: None,
    ) -> None:  # fmt: skip
        """Ask until the budget is spent or no item is left. every: answers after which `rerank` is called; 0: never.

        A round continues at the item where the one before stopped, so its cost does not depend on answered items.
        """
        failed = set[int]()
        left = iter(order)
        item = next(left, None)
        while item is not None and self.spent < self.budget:
            stop = min(self.budget, self.spent - self.spent % every + every) if every else self.budget
            while item is not None and self.spent < stop:
                if item not in failed:
                    self._settle(ask, item, stop, failed, tick)
                if item in failed or self.winner(item) is not None:
                    item = next(left, None)
            if rerank is not None and item is not None and self.spent < self.budget:
                other = rerank(self.votes)
                if other is not None:
                    left = iter(other)
                    item = next(left, None)

    def _settle(self, ask: Ask, item: int, stop: int, failed: set[int], tick: Tick) -> None:
        """Ask about an item until it is answered or `stop` answers are spent; add it to `failed` if no reply comes."""
        votes = self.votes.setdefault(item, ItemVotes())
        while self.spent < stop and self.winner(item) is None:
            try:
                reply = ask(Question(item, self.uids[item], votes.spent + 1))
            except ReasonError as error:
                self.findings.append(QueueFinding(item, error.reason, str(error)))
                failed.add(item)
                return
            self.record(item, reply)
            if reply.label is None:
                votes.cannot_tell.add(reply.reviewer)
            else:
                votes.labels[reply.reviewer] = reply.label
            self.spent += 1
            tick(1)


def annotate(
    queue: Queue, annotator: Annotator, *, every: int = 0, ranker: Callable[[], Order] | None = None,
    report: Callable[[Order | None], None] = lambda order: None, tick: Tick = lambda n: None,
) -> Rounds:  # fmt: skip
    """Let an annotator answer a queue until its budget is spent, and return the votes and findings.

    The answers are stored as they come. every: answers of a round, after which `ranker` ranks the items that are left,
    and `report` is called with its order (None without a ranker). A process that was killed in between finds the newest
    order, or ranks first if the answers of a round are there without one, so that it goes on as if it had not died.
    Raises `UserError` if the queue has other answers under the annotator's names.
    """
    uids = queue.items.column("uid").to_pylist()
    ask = annotator.open(queue.document.classes, uids)
    document = queue.document

    def record(item: int, reply: Reply) -> None:
        if queue.record(_answer(queue, item, reply)) == "taken":
            text = f"item {item} has another answer of {reply.reviewer}"
            raise UserError(text, fix="use the seed and the table of the first run, or build another queue")

    def next_round(votes: Mapping[int, ItemVotes]) -> Sequence[int] | None:
        order = ranker() if ranker is not None else None
        report(order)
        return None if order is None else order.left

    rounds = Rounds(uids, queue.labels, document.budget, document.current_votes, record)
    for state in states(queue):
        if state.votes.spent:
            rounds.votes[state.item] = state.votes
            rounds.spent += state.votes.spent
    newest = newest_order(queue)
    order: Sequence[int] = range(len(uids)) if newest is None else newest.items.tolist()
    is_open = any(rounds.winner(item) is None for item in range(len(uids)))
    if ranker is not None and is_open and is_due(newest, rounds.spent, every) and rounds.spent < document.budget:
        order = next_round(rounds.votes) or order
    rounds.ask(ask, order, every=every, rerank=next_round if every else None, tick=tick)
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
