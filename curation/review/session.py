"""A queue in the memory of one server: which item a reviewer sees next, and the answers that come in.

The records decide; this is a view of them that the server's own answers keep current. Before an item is shown, its
records are read again (one listing), so an answer through another server is seen then; only the counts may lag behind.
A newer order of the items (`orders`) is looked for every `ORDER_SECONDS` at most, one GET, when a next item is asked
for. Memory: the items' table, 8 bytes an item for their order, and about 700 bytes an item with answers. `next` costs
one pass over a byte an item: 0.1 ms of 100,000 items, 0.3 ms in another order than that of the items. Thread-safe: no
request to a store is made while the lock is held.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from curation.core.errors import UserError
from curation.core.printable import printable
from curation.core.progress import Tick
from curation.review.documents import AnswerKind, reviewer_name
from curation.review.orders import Order, is_due, newest_order
from curation.review.pictures import ShownPicture, shown_picture
from curation.review.queue import Queue
from curation.review.status import states
from curation.review.votes import STATES, ItemVotes, fold
from curation.shards.sample_reader import SampleReader
from curation.storage.store import open_store

ANSWERED = STATES.index("answered")
MOST_REVIEWERS = 1000  # of one server: each takes a byte an item
ORDER_SECONDS = 5.0  # between two looks for a newer order; an older one is as sound, and only less useful
SHOWN = 3  # items that one reviewer's page holds: the one on the screen, and those fetched ahead


class ConflictError(UserError):
    """The answer can't be taken, because the queue has changed since the item was shown."""

    code = "conflict"


class Offer(NamedTuple):
    """An item for a reviewer. `n`: the number of the reviewer's next answer to it."""

    item: int
    n: int
    row: dict[str, Any]


@dataclass
class Reviewer:
    """What a server knows of one reviewer: the items with an answer in effect, and those on the screen."""

    answered: np.ndarray[Any, np.dtype[np.bool_]]
    shown: list[int] = field(default_factory=list)
    given: int = 0  # answers to this server


class Session:
    """A queue that one server shows. Opening reads all answers once."""

    def __init__(self, queue: Queue, tick: Tick = lambda n: None) -> None:
        self.queue = queue
        rows = queue.document.items.rows
        self._lock = Lock()
        self._reader = SampleReader(open_store(queue.document.corpus, queue.store.options))
        self._limits = queue.document.decoding
        self._states = np.zeros(rows, np.uint8)
        self._votes: dict[int, ItemVotes] = {}
        self._spent = 0
        self._reviewers: dict[str, Reviewer] = {}
        self._order: Order | None = None
        self._looked = -ORDER_SECONDS
        for state in states(queue, tick):
            if state.votes.last:
                self._set(state.item, state.votes)

    def next(self, reviewer: str, skip: Collection[int] = ()) -> Offer | None:
        """Return the first item in rank order that needs an answer of this reviewer; None if there is none.

        skip: items that the reviewer's page has already. Items on the screens of others come last.
        """
        name = reviewer_name(reviewer)
        if monotonic() - self._looked >= ORDER_SECONDS:
            self.look_for_order()
        while (item := self._choose(name, skip)) is not None:
            votes = self._refresh(item)
            with self._lock:
                if self._states[item] != ANSWERED and not votes.has(name):
                    return Offer(item, votes.last.get(name, 0) + 1, self._shown_row(item))
        return None

    def offer(self, reviewer: str, item: int) -> Offer:
        """Return one item again, such as one whose answer was taken back."""
        votes = self._refresh(self._expect_item(item))
        return Offer(item, votes.last.get(reviewer_name(reviewer), 0) + 1, self._shown_row(item))

    def answer(self, reviewer: str, item: int, n: int, kind: AnswerKind, label: str | None, at: str = "") -> bool:
        """Record an answer; returns whether it is new. Repeated, it changes nothing.

        Raises `ConflictError` if the reviewer has another answer under this number or in effect, and where the budget
        is spent; `UserError` for an answer that no queue takes.
        """
        name = reviewer_name(reviewer)
        self._expect_item(item)
        if label is not None and label not in self.queue.document.classes:
            raise UserError(f"{label[:80]!r} is none of the queue's classes", fix="choose a class of the page")
        try:
            record = self.queue.answer(kind, item, name, n, label, at)
        except ValueError:
            raise UserError("the answer has a wrong number or kind", fix="reload the page") from None
        votes = self._refresh(item)
        if n > votes.last.get(name, 0):
            self._expect_fitting(votes, name, n, kind)
        outcome = self.queue.record(record)
        self._refresh(item)
        if outcome == "taken":
            fix = "the page shows the item again"
            raise ConflictError(f"{name} has another answer {n} to item {item}", fix=fix)
        with self._lock:
            self._of(name).given += outcome == "created" and kind != "undo"
        return outcome == "created"

    def picture(self, item: int) -> ShownPicture:
        """Return an item's picture. Raises `ReasonError` if it can't be shown, and `StoreError`."""
        return shown_picture(self._reader, self.queue.row(self._expect_item(item)), self._limits)

    def progress(self, reviewer: str) -> dict[str, int]:
        """Return the counts of the queue, and of the reviewer's answers."""
        with self._lock:
            counts = np.bincount(self._states, minlength=len(STATES)).tolist()
            known = self._of(reviewer_name(reviewer))
            mine, given = int(known.answered.sum()), known.given
        found = dict(zip(STATES, counts, strict=True))
        more = {"items": sum(counts), "spent": self._spent, "budget": self.queue.document.budget}
        return {**found, **more, "mine": mine, "given": given}

    def look_for_order(self) -> None:
        """Show items in the newest order from now on. Costs one GET without a newer one."""
        self._looked = monotonic()
        newest = newest_order(self.queue, self._order)
        with self._lock:
            if newest is not None and (self._order is None or newest.document.number > self._order.document.number):
                self._order = newest

    def is_due(self, every: int) -> bool:
        """Whether the items left are to be ranked again: a round of `every` answers is complete, and money is left."""
        with self._lock:
            left = self._spent < self.queue.document.budget and bool((self._states != ANSWERED).any())
            return left and is_due(self._order, self._spent, every)

    @property
    def spent(self) -> int:
        """Answers in effect, as far as this server knows."""
        return self._spent

    def close(self) -> None:
        """Delete local copies of shards."""
        self._reader.close()

    # --- details --------------------------------------------------------------------------------------------------

    def _choose(self, name: str, skip: Collection[int]) -> int | None:
        with self._lock:
            if self._spent >= self.queue.document.budget:
                return None
            me = self._of(name)
            wanted = (self._states != ANSWERED) & ~me.answered
            wanted[[item for item in skip if 0 <= item < len(wanted)]] = False
            others = [item for key, one in self._reviewers.items() if key != name for item in one.shown]
            quiet = wanted.copy()
            quiet[others] = False
            # A reviewer who left holds `SHOWN` items back until all others are answered; nothing expires by a clock.
            for mask in (quiet, wanted):
                if (item := self._first(mask)) is not None:
                    me.shown = [*(one for one in me.shown if one != item), item][-SHOWN:]
                    return item
            me.shown = []
            return None

    def _first(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
        """Return the first item of a mask in the newest order."""
        ranked = mask if self._order is None else mask[self._order.items]
        place = int(ranked.argmax())
        if not ranked[place]:
            return None
        return place if self._order is None else int(self._order.items[place])

    def _refresh(self, item: int) -> ItemVotes:
        """Read the records of an item, and let them take effect."""
        votes, _ = fold(self.queue.document, self.queue.sha256, self.queue.answers_of(item))
        with self._lock:
            known = self._votes.get(item)
            if known is not None and sum(known.last.values()) > sum(votes.last.values()):
                return known  # another thread has read later records
            self._set(item, votes)
        return votes

    def _set(self, item: int, votes: ItemVotes) -> None:
        before = self._votes.get(item, ItemVotes())
        self._spent += votes.spent - before.spent
        if votes.last:
            self._votes[item] = votes
        else:
            self._votes.pop(item, None)
        document = self.queue.document
        self._states[item] = STATES.index(votes.state(self.queue.labels[item], document.current_votes))
        for name in before.last.keys() | votes.last.keys():
            self._of(name).answered[item] = votes.has(name)

    def _of(self, name: str) -> Reviewer:
        found = self._reviewers.get(name)
        if found is None:
            if len(self._reviewers) >= MOST_REVIEWERS:
                raise UserError(f"the server has {MOST_REVIEWERS:,} reviewers", fix="start another server")
            found = self._reviewers[name] = Reviewer(np.zeros(len(self._states), np.bool_))
        return found

    def _expect_item(self, item: int) -> int:
        if not 0 <= item < len(self._states):
            raise UserError(f"the queue has no item {item}", fix="reload the page")
        return item

    def _expect_fitting(self, votes: ItemVotes, name: str, n: int, kind: AnswerKind) -> None:
        """Raise `ConflictError` for an answer that would have no effect, so that the page makes no such record."""
        fix = "the page shows the item again"
        if n != votes.last.get(name, 0) + 1:
            raise ConflictError(f"answer {n} does not follow the last one of {name}", fix=fix)
        if (kind == "undo") != votes.has(name):
            what = "no answer to take back" if kind == "undo" else "an answer to this item already"
            raise ConflictError(f"{name} has {what}", fix=fix)
        if kind != "undo" and self._spent >= self.queue.document.budget:
            raise ConflictError("the budget is spent", fix="build a queue with a larger budget")

    def _shown_row(self, item: int) -> dict[str, Any]:
        """Return what the page shows of an item: plain text, with hidden and control characters made visible."""
        row = self.queue.row(item)
        best = [{"label": one["label"], "probability": round(one["probability"], 4)} for one in row["best"]]
        return {
            "caption": printable(row["caption"] or ""),
            "label": None if row["label"] is None else printable(row["label"]),
            "best": best,
            "problem": row["reason"],
            "uid": row["uid"],
        }
