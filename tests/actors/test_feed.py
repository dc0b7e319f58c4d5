"""The feed's actor, as a plain object on an event loop: who waits, for what, and when a run is given up."""

from __future__ import annotations

import asyncio

import torch

from actors.feed import FeedActor, Weights
from curation.feed import Plan
from curation.online import Choice, Selection
from curation.pool import Place
from curation.selectors.blend import Learnability


def test_callers_wait_for_their_turn() -> None:
    async def scenario() -> None:
        feed, told = FeedActor(), []
        plan = Plan(selection=Selection(selector=Learnability()), steps=2, batch=2, pool=9, moving=True, buffer=1)

        async def choose() -> None:
            while (order := await feed.ticket("a")) is not None:
                assert order.weights is not None
                told.append((order.ticket.number, order.weights.fingerprints["online"]))
                rows = torch.arange(order.ticket.size)
                await feed.put(order.ticket.generation, Choice(order.ticket.number, rows, None, rows[:2]), {})

        actor = asyncio.create_task(choose())
        await asyncio.sleep(0)
        generation = await feed.begin(plan, 0, Place(), [])
        for number in range(2):
            await feed.trained(generation, number, Weights({}, {"online": f"after {number}"}), "")
            assert (await feed.take(generation, number)).choice.number == number
        await feed.trained(generation, 2, None, "done")
        await asyncio.wait_for(actor, 5)
        assert told == [(0, "after 0"), (1, "after 1")]
        assert (await feed.state()).position == 2

    asyncio.run(scenario())


def test_learners_that_do_not_get_on_are_given_up() -> None:
    async def scenario() -> None:
        feed = FeedActor()
        for _ in range(3):
            assert await feed.starting(8, 2) is None
            await feed.failed("MemoryError: ")
        for _ in range(3):
            assert await feed.starting(16, 2) is None  # it has got on meanwhile
        error = await feed.starting(16, 2)
        assert error is not None and "3 times after 16 updates; the last time: MemoryError" in str(error) and error.fix
        assert (await feed.state()).error is error
        assert await feed.ticket("a") is None

    asyncio.run(scenario())
