"""The feed as a Ray actor: a bounded buffer of sub-batches, and the published weights of the choosing models.

`curation.selection.feed` does the bookkeeping; here callers wait for their turn. A sub-batch is sent as rows of the
pool, whose blocks every process maps from the object store of its node: a few kB a step for samples of any size.
Weights are sent as references: 4 bytes a parameter and version, to each node that asks for them.

If this actor dies, Ray starts an empty one; the learners notice at their next step, and resume from a checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ray.exceptions import RayTaskError

from actors.ray_cluster import unwrap
from curation.core.errors import TutelageError, UnavailableError
from curation.selection.feed import Feed, FeedSettings, Ticket
from curation.selection.flops import Repeated
from curation.selection.online import Choice
from curation.selection.pool_blocks import PoolPosition

_NOTHING = Repeated()
PATIENCE = 20  # attempts to read a window while the store is unavailable, each with retries of its own
RETRY_SECONDS = 3.0  # between two attempts


#: One version of the choosing models: role -> a reference to its tensors, in a list, which Ray does not resolve on the
#: way.
ModelWeights = Mapping[str, list[Any]]


class ChoosingOrder(NamedTuple):
    """A ticket with the weights to choose with; None if the choosing models don't learn or selection has stopped."""

    ticket: Ticket
    weights: ModelWeights | None


Spent = Mapping[str, tuple[int, float]]  # role -> samples scored, device-seconds


class TakenChoice(NamedTuple):
    """A choice for a learner, its cost, the choices that were ready, and the work that the run has repeated so far."""

    choice: Choice
    spent: Spent
    occupancy: int
    repeated: Repeated


class FeedState(NamedTuple):
    """The progress of a run, for the driver: the next step, a note, an error or the summary at the end."""

    position: int
    note: str
    repeated: Repeated
    error: TutelageError | None
    summary: dict[str, Any] | None


class FeedActor:
    """An asyncio actor: every method runs on one event loop. See the module."""

    def __init__(self, keeper: Any) -> None:
        """keeper: the actor that knows the pool's windows (`actors.blocks`)."""
        self._keeper = keeper
        self._feed: Feed | None = None
        self._changed = asyncio.Condition()
        self._looks = asyncio.Lock()
        self._weights: dict[int, ModelWeights] = {}
        self._spent: dict[int, Spent] = {}
        self._note, self._position = "", 0
        self._gone: set[str] = set()  # names of actors that died, perhaps while they waited for a ticket
        self._away = 0  # failed attempts in a row to read a window
        self._error: TutelageError | None = None
        self._summary: dict[str, Any] | None = None

    async def begin(
        self,
        plan: FeedSettings,
        number: int,
        place: PoolPosition,
        pending: Sequence[Choice],
        repeated: Repeated = _NOTHING,
    ) -> str:
        """Begin a generation of learners; return its name. See `Feed.begin`."""
        feed = self._feed = self._feed or Feed(plan)
        self._weights, self._spent = {}, {}
        generation = feed.begin(number, place, pending, repeated)
        await self._notify()
        return generation

    async def ticket(self, holder: str) -> ChoosingOrder | None:
        """Wait for the next step to choose and return it; None if the run has ended or `holder` has died."""
        while not self._over() and holder not in self._gone:
            try:
                ticket = self._feed.ticket(holder) if self._feed is not None else None
            except TutelageError as error:  # no window has room for a super-batch
                await self.end(None, error)
                break
            if ticket is not None:
                assert self._feed is not None
                plan = self._feed.plan
                # Weights are published only for models that learn and still choose.
                published = plan.moving and plan.selection.scores(ticket.number, plan.steps)
                return ChoosingOrder(ticket, self._weights[ticket.version] if published else None)
            if self._feed is not None and self._feed.asked is not None:
                async with self._looks:
                    await self._look(self._feed)
            else:
                await self._wait()
        return None

    async def _look(self, feed: Feed) -> None:
        """Wait until the window that the feed needs is read, and pass on its size."""
        if feed.asked is None:
            return  # another caller has done it
        try:
            epoch, first = feed.asked
            feed.add_window(epoch, first, await self._keeper.window.remote(epoch, first))
            self._away = 0
        except RayTaskError as error:
            found = unwrap(error)
            if not isinstance(found, TutelageError):
                raise
            self._away += 1
            if isinstance(found, UnavailableError) and self._away < PATIENCE:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await self.end(None, found)

    async def put(self, generation: str, choice: Choice, spent: Spent) -> None:
        """Accept a choice. spent: samples and device-seconds of each role."""
        if self._feed is not None and self._feed.put(generation, choice):
            self._spent[choice.number] = spent
            await self._notify()

    async def died(self, holder: str) -> None:
        """Hand out the step of a dead actor again, and cancel its pending request. Names are not reused."""
        self._gone.add(holder)
        if self._feed is not None:
            self._feed.lost(holder)
        await self._notify()

    async def give_up(self, holder: str, generation: str) -> None:
        """Stop a generation whose published weights can't be fetched, since their owner died or can't be reached."""
        if self._feed is not None:
            self._feed.fail(generation)
            self._feed.lost(holder)
        await self._notify()

    async def take(self, generation: str, number: int) -> TakenChoice:
        """Wait for the choice of step `number` and return it."""
        occupancy = self._living().occupancy
        while (found := self._living().take(generation, number)) is None:
            await self._wait()
        return TakenChoice(found, self._spent.get(number, {}), occupancy, self._living().repeated)

    async def trained(self, generation: str, version: int, weights: ModelWeights | None, note: str) -> None:
        """Record that all learners have made the step before `version`. weights: if this version is published."""
        feed = self._living()
        if weights is not None:
            self._weights[version] = weights
        feed.trained(generation, version)
        self._spent.pop(version - 1, None)
        self._weights = {known: value for known, value in self._weights.items() if known >= feed.oldest()}
        self._note = note
        await self._notify()

    async def ahead(self, generation: str, number: int) -> tuple[PoolPosition, list[Choice]]:
        """Wait for the part of a checkpoint after `number` updates that the feed holds, and return it."""
        while (found := self._living().ahead(generation, number)) is None:
            await self._wait()
        return found

    async def tell(self, position: int, note: str) -> None:
        """Record the progress of learners that need no feed."""
        self._position, self._note = position, note

    async def end(self, summary: dict[str, Any] | None, error: TutelageError | None = None) -> None:
        """End the run: with its summary, or with the error that stops it."""
        self._summary, self._error = summary, error
        await self._notify()

    async def state(self) -> FeedState:
        """Return the progress of the run."""
        position = self._position if self._feed is None else self._feed.position
        repeated = _NOTHING if self._feed is None else self._feed.repeated
        return FeedState(position, self._note, repeated, self._error, self._summary)

    def _living(self) -> Feed:
        if self._error is not None:
            raise self._error
        if self._feed is None:
            raise ValueError("the feed was restarted: these learners belong to an old generation")
        return self._feed

    def _over(self) -> bool:
        done = self._feed is not None and self._feed.done
        return done or self._error is not None or self._summary is not None

    async def _wait(self) -> None:
        async with self._changed:
            await self._changed.wait()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
