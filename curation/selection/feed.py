"""The feed between the actors that choose sub-batches and the learners that train on them: tickets and ready choices.

Bookkeeping in one process; `actors.feed` makes it an actor. Its invariant (property-tested) holds through deaths, late
answers and repeated answers: steps are trained on in order, each once; the super-batches of all steps follow one
another through the pool, so no position of an epoch is offered twice or left out; and every step is chosen by the model
version that `SelectionSettings.version` gives. The sub-batches thus don't depend on the speed of any process.

A restart of the learners is a new generation (`begin`): the state of the old one is dropped, and its late answers are
refused. Work that is repeated for it is counted (`repeated`), for the ledger of compute. Cost: O(1) a step; in memory
the choices of at most `buffer` steps, 20 bytes a candidate, and a number for each step since a checkpoint.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from curation.selection.flops import Repeated
from curation.selection.online import Choice
from curation.selection.pool_blocks import Extent, PoolPosition, begin
from curation.selectors.selection_settings import SelectionSettings

_NOTHING = Repeated()
WINDOWS = 8  # windows whose sizes are remembered


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """The settings of a run that the feed needs.

    moving: whether the choosing models learn and thus have versions. buffer: the most steps that are chosen, or being
    chosen, ahead of the learner. Raises `ValueError` for a buffer that is too small for the lag.
    """

    selection: SelectionSettings
    steps: int
    batch: int
    moving: bool
    buffer: int

    def __post_init__(self) -> None:
        if self.moving and self.buffer <= self.selection.lag:
            text = f"a buffer of {self.buffer} steps is too small for a lag of {self.selection.lag}"
            raise ValueError(f"{text}: it must be at least lag + 1")

    def candidates(self, number: int) -> int:
        """Return B of step `number`, if the pool has as many candidates."""
        return self.selection.candidates(self.batch, number / self.steps)

    def version(self, number: int) -> int:
        """Return the version of the models that choose step `number`: their updates; 0 if they don't learn."""
        return self.selection.version(number) if self.moving else 0


class Ticket(NamedTuple):
    """The task to choose one step, from the candidates at `place` of the pool, with the models of `version`."""

    generation: str
    number: int
    place: PoolPosition
    size: int  # B
    version: int


class Feed:
    """The state of one run's feed."""

    def __init__(self, plan: FeedSettings) -> None:
        self.plan = plan
        self.generation = ""  # "": none has begun
        self.position = 0  # the step that is trained on next
        self.repeated = Repeated()  # work that is repeated because a process died
        self._scored: dict[int, int] = {}  # scored candidates of each step since the last but one checkpoint
        self._saved = 0  # the step at the last checkpoint
        self._next = 0  # the step whose ticket is issued next
        self._place = PoolPosition()  # of that step, as far as windows are known
        self._last = 1  # the last epoch in which a window for it is searched
        self._published = -1
        self._first = 0  # the oldest version of this generation
        self._failed = False
        self._ready: dict[int, Choice] = {}
        self._places: dict[int, PoolPosition] = {}  # of the steps from `position` on with a ticket
        self._tickets: dict[int, Ticket] = {}  # of steps that are handed out, or wait to be handed out again
        self._holders: dict[int, str] = {}
        self._lost: list[int] = []  # a heap
        self._extents: dict[tuple[int, int], Extent] = {}  # the last few windows of the pool
        self.asked: tuple[int, int] | None = None  # the window whose size is needed for the next ticket

    def add_window(self, epoch: int, first: int, extent: Extent) -> None:
        """Record the size of the window of `epoch` that begins with shard number `first`."""
        self._extents[epoch, first] = extent
        while len(self._extents) > WINDOWS:
            self._extents.pop(next(iter(self._extents)))
        if self.asked == (epoch, first):
            self.asked = None

    def _extent(self, epoch: int, first: int) -> Extent | None:
        found = self._extents.get((epoch, first))
        if found is None:
            self.asked = epoch, first
        return found

    def begin(
        self, number: int, place: PoolPosition, pending: Sequence[Choice] = (), repeated: Repeated = _NOTHING
    ) -> str:
        """Begin a generation of learners at step `number`; return its name.

        place: position of the candidates of the first step that is not chosen yet. pending: the choices from step
        `number` on, from a checkpoint. repeated: as counted by the ledger of that checkpoint.
        """
        assert [choice.number for choice in pending] == list(range(number, number + len(pending)))
        self._lose(number, {choice.number for choice in pending})
        self.repeated = Repeated(*map(max, self.repeated, repeated))  # a restarted feed has lost its counts
        self.generation = uuid4().hex
        self.position, self._next, self._place = number, number + len(pending), place
        self._last = place.epoch + 1
        self._published, self._first, self._failed = -1, number, False
        self._ready = {choice.number: choice for choice in pending}
        self._places, self._tickets, self._holders, self._lost = {}, {}, {}, []
        return self.generation

    @property
    def done(self) -> bool:
        """Whether the last step has been trained on."""
        return bool(self.generation) and self.position >= self.plan.steps

    @property
    def occupancy(self) -> int:
        """The number of choices that are ready."""
        return len(self._ready)

    def ticket(self, holder: str) -> Ticket | None:
        """Return the next step to choose, for `holder`, which has one at a time.

        None while there is nothing to choose, or the size of the next window is unknown (`asked`).
        """
        self.lost(holder)
        if not self.generation or self._failed:
            return None
        if self._lost:
            number = heapq.heappop(self._lost)
            self._again(self._cost(self._tickets[number]))
        else:
            number = self._next
            if number >= min(self.plan.steps, self.position + self.plan.buffer):
                return None
            if self._version(number) > self._published:
                return None
            place, count = begin(self._place, self.plan.candidates(number), self._extent, self._last)
            self._place = place
            if not count:
                return None
            self._tickets[number] = Ticket(self.generation, number, place, count, self._version(number))
            self._places[number] = place
            self._next, self._place, self._last = number + 1, place.after(count), place.epoch + 1
        self._holders[number] = holder
        return self._tickets[number]

    def put(self, generation: str, choice: Choice) -> bool:
        """Accept a choice. Return False for a late one: another choice was first, or its generation has ended."""
        number = choice.number
        if generation != self.generation or number not in self._tickets:
            return False
        del self._tickets[number]
        self._holders.pop(number, None)
        if number in self._lost:
            self._lost.remove(number)
            heapq.heapify(self._lost)
        self._ready[number] = choice
        self._scored[number] = 0 if choice.scores is None else len(choice.candidates)
        return True

    def lost(self, holder: str) -> None:
        """Offer the step of `holder` again, which has died or given up."""
        for number in [number for number, name in self._holders.items() if name == holder]:
            del self._holders[number]
            heapq.heappush(self._lost, number)

    def fail(self, generation: str) -> None:
        """Stop a generation whose models are lost: no ticket is issued until the next one begins."""
        self._failed = self._failed or generation == self.generation

    def take(self, generation: str, number: int) -> Choice | None:
        """Return the choice of step `number`; None while it isn't ready, or other learners are a step behind.

        Raises `ValueError` for a learner of an old generation, or at another step.
        """
        if generation == self.generation and self._failed:
            raise ValueError("the choosing models are lost: begin again")
        behind = number == self.position + 1
        self._check(generation, number, self.position + behind)
        return None if behind else self._ready.get(number)

    def trained(self, generation: str, version: int) -> None:
        """Record that all learners have made the step before `version`, and that its models are published if due."""
        begun = self._published < 0 and version == self.position
        self._check(generation, version, self.position if begun else self.position + 1)
        self._ready.pop(version - 1, None)
        self._places.pop(version - 1, None)
        self.position = version
        if version % self.plan.selection.publish_every == 0 or begun:
            self._published = version

    def oldest(self) -> int:
        """Return the oldest version that an actor may still choose with."""
        return self._version(self.position)

    def ahead(self, generation: str, number: int) -> tuple[PoolPosition, list[Choice]] | None:
        """Return the part of a checkpoint after `number` updates: choices by older models, and the position after them.

        None while one of these is not ready. Models that don't learn repeat their choices exactly, so none is held.
        """
        self._check(generation, number, self.position)
        end = number
        while end < self.plan.steps and (self._held(end, number) or (end < self._next and end not in self._places)):
            end += 1
        if any(step not in self._ready for step in range(number, end)):
            return None
        if number != self._saved:  # if a checkpoint is unreadable, the run resumes from the one before
            self._scored = {step: size for step, size in self._scored.items() if step >= self._saved}
            self._saved = number
        return self._places.get(end, self._place), [self._ready[step] for step in range(number, end)]

    def _lose(self, number: int, pending: Collection[int]) -> None:
        """Count the work of the old generation that is repeated, as the new one begins at step `number`."""
        if self.generation:
            chosen = sum(size for step, size in self._scored.items() if step >= number and step not in pending)
            handed = sum(map(self._cost, self._tickets.values()))
            self._again(chosen + handed, max(0, self.position - number))
        self._scored = {step: size for step, size in self._scored.items() if step in pending}

    def _again(self, candidates: int, updates: int = 0) -> None:
        self.repeated = Repeated(self.repeated.candidates + candidates, self.repeated.updates + updates)

    def _cost(self, ticket: Ticket) -> int:
        """Return the candidates that are scored for a ticket. A holder that died is charged for all of them."""
        return ticket.size if self.plan.selection.scores(ticket.number, self.plan.steps) else 0

    def _held(self, step: int, version: int) -> bool:
        return self.plan.moving and self._version(step) < version

    def _version(self, number: int) -> int:
        """Return the version for a step; a run that has resumed with other data has no older models than its first."""
        return max(self.plan.version(number), self._first) if self.plan.moving else 0

    def _check(self, generation: str, number: int, expected: int) -> None:
        if generation != self.generation:
            raise ValueError("these learners belong to an old generation")
        if number != expected:
            raise ValueError(f"a learner is at step {number}, and the feed at {expected}")
