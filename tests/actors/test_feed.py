"""The feed's actor, as a plain object on an event loop: who waits, for what, and when a run is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch
from ray.exceptions import RayTaskError

from actors.feed import FeedActor
from curation.core.errors import UserError
from curation.selection.feed import FeedSettings
from curation.selection.online import Choice
from curation.selection.pool_blocks import Extent, PoolPosition
from curation.selectors.blend import Learnability
from curation.selectors.selection_settings import SelectionSettings

PLAN = FeedSettings(selection=SelectionSettings(selector=Learnability()), steps=2, batch=2, moving=True, buffer=1)


class Keeper:
    """A keeper of one window of nine samples, or of none."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.window = error, self

    async def remote(self, epoch: int, first: int) -> Extent:
        if self.error is not None:
            raise RayTaskError("window", "", self.error)
        return Extent((0,), 9)


def test_callers_wait_for_their_turn() -> None:
    async def scenario() -> None:
        feed, told = FeedActor(Keeper()), []

        async def choose() -> None:
            while (order := await feed.ticket("a")) is not None:
                assert order.weights is not None
                told.append((order.ticket.number, order.weights["online"][0]))
                rows = torch.arange(order.ticket.size)
                await feed.put(order.ticket.generation, Choice(order.ticket.number, rows, None, rows[:2]), {})

        actor = asyncio.create_task(choose())
        await asyncio.sleep(0)
        generation = await feed.begin(PLAN, 0, PoolPosition(), [])
        for number in range(2):
            await feed.trained(generation, number, {"online": [f"after {number}"]}, "")
            assert (await feed.take(generation, number)).choice.number == number
        await feed.trained(generation, 2, None, "done")
        await asyncio.wait_for(actor, 5)
        assert told == [(0, "after 0"), (1, "after 1")]
        assert (await feed.state()).position == 2

    asyncio.run(scenario())


def test_a_dead_actor_that_waited_gets_nothing() -> None:
    async def scenario() -> None:
        feed = FeedActor(Keeper())
        waiting = asyncio.create_task(feed.ticket("dead"))
        await asyncio.sleep(0)
        await feed.died("dead")
        generation = await feed.begin(replace(PLAN, moving=False), 0, PoolPosition(), [])
        await feed.trained(generation, 0, None, "")
        assert await asyncio.wait_for(waiting, 5) is None
        order = await asyncio.wait_for(feed.ticket("alive"), 5)
        assert order is not None and order.ticket.number == 0

    asyncio.run(scenario())


def test_everybody_who_waits_is_told_when_the_run_can_not_go_on() -> None:
    async def scenario() -> None:
        feed = FeedActor(Keeper())
        generation = await feed.begin(PLAN, 0, PoolPosition(), [])
        learner, actor = asyncio.create_task(feed.take(generation, 0)), asyncio.create_task(feed.ticket("a"))
        await asyncio.sleep(0)
        await feed.end(None, UserError("no"))
        assert await asyncio.wait_for(actor, 5) is None
        with pytest.raises(UserError, match="no"):
            await asyncio.wait_for(learner, 5)
        assert (await feed.state()).error is not None

    asyncio.run(scenario())


def test_learners_whose_weights_are_gone_begin_again() -> None:
    async def scenario() -> None:
        feed = FeedActor(Keeper())
        generation = await feed.begin(PLAN, 0, PoolPosition(), [])
        await feed.trained(generation, 0, {}, "")
        learner = asyncio.create_task(feed.take(generation, 0))
        order = await feed.ticket("a")
        assert order is not None
        await feed.give_up("a", generation)
        with pytest.raises(ValueError, match="begin again"):
            await asyncio.wait_for(learner, 5)
        again = await feed.begin(PLAN, 0, PoolPosition(), [])
        await feed.trained(again, 0, {}, "")
        order = await feed.ticket("a")
        assert order is not None and order.ticket.generation == again

    asyncio.run(scenario())


def test_candidates_that_can_not_be_read_end_the_run() -> None:
    async def scenario() -> None:
        for feed, plan in (
            (FeedActor(Keeper(UserError("no score"))), PLAN),
            (
                FeedActor(Keeper()),
                replace(PLAN, selection=SelectionSettings(selector=Learnability(), filtering_ratio=0.9)),
            ),
        ):
            generation = await feed.begin(plan, 0, PoolPosition(0, 1), [])
            await feed.trained(generation, 0, {}, "")
            first = await asyncio.wait_for(feed.ticket("a"), 5)
            assert first is None or first.ticket.size == 9  # the only window offers all its samples
            assert ((await feed.state()).error is None) == (first is not None)

    asyncio.run(scenario())
