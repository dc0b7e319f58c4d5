"""The feed's invariant through deaths, delays and repeated answers: every step once, in order, with every candidate."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curation.selection.feed import Feed, FeedSettings, Ticket
from curation.selection.flops import Repeated
from curation.selection.online import Choice
from curation.selection.pool_blocks import Extent, PoolPosition, begin
from curation.selectors.blend import EasyReference
from curation.selectors.schedule import Ramp
from curation.selectors.selection_settings import SelectionSettings

BATCH, STEPS, ACTORS = 2, 12, 3
# Candidates of each window of an epoch; some are too small, and once more of these than are remembered.
POOLS = [(23,), (12, 11), (3, 14, 2, 10), (10, 1), (*[1] * 12, 20)]


def choice_of(ticket: Ticket) -> Choice:
    """A pool whose candidates are their own places, so that a test sees which were offered."""
    first = named(ticket.place)
    return Choice(ticket.number, torch.arange(first, first + ticket.size), None, torch.arange(BATCH), ticket.version)


def named(place: PoolPosition) -> int:
    return place.epoch * 10_000 + place.first * 100 + place.drawn


def extent(windows: tuple[int, ...], epoch: int, first: int) -> Extent:
    return Extent((first,), windows[first], first + 1 if first + 1 < len(windows) else None)


class Running(RuleBasedStateMachine):
    """Actors and learners that do what they like, as far as the feed lets them."""

    @initialize(lag=st.integers(0, 4), every=st.integers(1, 3), spare=st.integers(1, 3), moving=st.booleans(),
                windows=st.sampled_from(POOLS))  # fmt: skip
    def start(self, lag: int, every: int, spare: int, moving: bool, windows: tuple[int, ...]) -> None:
        self.windows = windows
        self.selection = SelectionSettings(
            selector=EasyReference(), filtering_ratio=Ramp(start=0.8, end=0.5), lag=max(lag, every - 1),
            publish_every=every,
        )  # fmt: skip
        self.plan = FeedSettings(selection=self.selection, steps=STEPS, batch=BATCH, moving=moving,
                         buffer=self.selection.lag + spare)  # fmt: skip
        self.feed = Feed(self.plan)
        self.tickets: dict[int, Ticket] = {}
        self.late: list[Ticket] = []  # of actors that died, or of an old generation
        self.history: list[Choice] = []  # what was trained on, of steps that still count
        self.saved: tuple[int, PoolPosition, list[Choice]] = (0, PoolPosition(), [])
        self.first = 0  # version of this generation
        self.generation = self.feed.begin(*self.saved)
        self.feed.trained(self.generation, 0)

    @rule(actor=st.integers(0, ACTORS - 1))
    def ask(self, actor: int) -> None:
        held = self.tickets.pop(actor, None)
        if held is not None:
            self.late.append(held)
        ticket = self.feed.ticket(str(actor))
        if ticket is not None:
            planned = self.plan.version(ticket.number)
            assert planned <= ticket.version <= self.feed.position
            assert ticket.version in (planned, self.first) or not self.plan.moving
            assert self.feed.oldest() <= ticket.version or not self.plan.moving
            assert ticket.number < self.feed.position + self.plan.buffer
            assert ticket not in self.tickets.values()
            self.tickets[actor] = ticket

    @rule()
    def add_window(self) -> None:
        if self.feed.asked is not None:
            self.feed.add_window(*self.feed.asked, extent(self.windows, *self.feed.asked))

    @rule(actor=st.integers(0, ACTORS - 1))
    def answer(self, actor: int) -> None:
        ticket = self.tickets.pop(actor, None)
        if ticket is not None:
            wanted = self.feed.put(ticket.generation, choice_of(ticket))
            assert not wanted or ticket.generation == self.generation
            assert wanted or ticket in self.late or ticket.generation != self.generation
            self.late.append(ticket)

    @rule(actor=st.integers(0, ACTORS - 1))
    def die(self, actor: int) -> None:
        self.feed.lost(str(actor))
        if actor in self.tickets:
            self.late.append(self.tickets.pop(actor))

    @rule(data=st.data())
    def answer_late_or_twice(self, data: st.DataObject) -> None:
        if self.late:
            ticket = data.draw(st.sampled_from(self.late))
            before = self.feed.occupancy
            if self.feed.put(ticket.generation, choice_of(ticket)):
                assert self.feed.occupancy == before + 1 and ticket.generation == self.generation

    @precondition(lambda self: not self.feed.done)
    @rule()
    def learn(self) -> None:
        number = self.feed.position
        found = self.feed.take(self.generation, number)
        if found is not None:
            assert found is self.feed.take(self.generation, number)  # the other learner
            self.history.append(found)
            self.feed.trained(self.generation, number + 1)

    @rule()
    def save(self) -> None:
        number = self.feed.position
        found = self.feed.ahead(self.generation, number)
        if found is not None:
            self.saved = (number, *found)

    @rule()
    def die_and_resume(self) -> None:
        old = self.generation
        self.generation = self.feed.begin(*self.saved)
        self.first = self.saved[0]
        del self.history[self.saved[0] :]
        self.feed.trained(self.generation, self.saved[0])
        with pytest.raises(ValueError, match="old generation"):
            self.feed.take(old, self.saved[0])

    @invariant()
    def every_step_once_and_every_candidate(self) -> None:
        if not hasattr(self, "plan"):
            return
        assert [choice.number for choice in self.history] == list(range(self.feed.position))
        place = PoolPosition()
        for choice in self.history:
            place, count = begin(place, self.plan.candidates(choice.number), partial(extent, self.windows))
            assert choice.candidates.tolist() == list(range(named(place), named(place) + count))
            place = place.after(count)

    def teardown(self) -> None:
        """Whatever has happened, one actor that lives brings the run to its end."""
        if not hasattr(self, "plan"):
            return
        for actor in range(ACTORS):
            self.die(actor)
        while not self.feed.done:
            ticket = self.feed.ticket("last")
            while ticket is None and self.feed.asked is not None:
                self.add_window()
                ticket = self.feed.ticket("last")
            if ticket is not None:
                assert self.feed.put(ticket.generation, choice_of(ticket))
            position = self.feed.position
            self.learn()
            assert ticket is not None or self.feed.position > position, "the feed is stuck"
        self.every_step_once_and_every_candidate()


TestFeed = Running.TestCase
TestFeed.settings = settings(max_examples=60, stateful_step_count=60, suppress_health_check=list(HealthCheck))


def test_versions_keep_within_the_lag() -> None:
    for lag in range(6):
        for every in range(1, lag + 2):
            selection = SelectionSettings(lag=lag, publish_every=every)
            ages = [number - selection.version(number) for number in range(40)]
            assert max(ages) <= lag and min(ages[lag:]) == lag - every + 1
            assert all(selection.version(number) % every == 0 for number in range(40))
    with pytest.raises(ValueError, match="at least publish_every - 1"):
        SelectionSettings(lag=1, publish_every=3)


def test_a_buffer_smaller_than_the_lag_would_wait_for_itself() -> None:
    with pytest.raises(ValueError, match="at least lag"):
        FeedSettings(selection=SelectionSettings(lag=3), steps=5, batch=2, moving=True, buffer=3)


def test_models_that_are_gone_are_not_chosen_with() -> None:
    feed = Feed(
        FeedSettings(selection=SelectionSettings(selector=EasyReference()), steps=5, batch=2, moving=True, buffer=1)
    )
    feed.add_window(0, 0, Extent((0,), 9))
    generation = feed.begin(0, PoolPosition())
    assert feed.ticket("a") is None  # nothing is published yet
    feed.trained(generation, 0)
    feed.fail("of long ago")
    ticket = feed.ticket("a")
    assert ticket is not None
    with pytest.raises(ValueError, match="at step 3"):
        feed.take(generation, 3)
    assert feed.take(generation, 1) is None  # the others are a step behind
    feed.fail(generation)
    feed.lost("a")
    assert feed.ticket("a") is None
    with pytest.raises(ValueError, match="begin again"):
        feed.take(generation, 0)
    feed.trained(feed.begin(0, PoolPosition()), 0)
    again = feed.ticket("a")
    assert again is not None and again.number == ticket.number and again.generation != generation


def test_with_other_data_there_are_no_older_models_than_those_it_began_with() -> None:
    selection = SelectionSettings(selector=EasyReference(), lag=3)
    feed = Feed(FeedSettings(selection=selection, steps=20, batch=2, moving=True, buffer=4))
    for epoch in range(1, 4):
        feed.add_window(epoch, 0, Extent((0,), 9))
    generation = feed.begin(8, PoolPosition(1, 0))  # what was pending belonged to the other data
    feed.trained(generation, 8)
    tickets = [feed.ticket(name) for name in "abcd"]
    assert [(ticket.number, ticket.version) for ticket in tickets if ticket] == [(8, 8), (9, 8), (10, 8), (11, 8)]
    assert feed.oldest() == 8


def test_what_is_computed_again_is_counted() -> None:
    """A dead actor repeats its super-batch; restarted learners repeat all steps since their checkpoint."""
    plan = FeedSettings(
        selection=SelectionSettings(selector=EasyReference(), stop=0.75), steps=8, batch=2, moving=False, buffer=3
    )
    feed = Feed(plan)
    for epoch in range(6):
        feed.add_window(epoch, 0, Extent((0,), 9))

    def choose(holder: str) -> int:
        ticket = feed.ticket(holder)
        assert ticket is not None
        scores = torch.zeros(ticket.size) if plan.selection.scores(ticket.number, plan.steps) else None
        assert feed.put(ticket.generation, Choice(ticket.number, torch.arange(ticket.size), scores, torch.arange(2)))
        return ticket.number

    generation = feed.begin(0, PoolPosition())
    feed.trained(generation, 0)
    assert feed.repeated == (0, 0)
    ticket = feed.ticket("dies")
    assert ticket is not None and ticket.size == 4
    feed.lost("dies")
    assert feed.repeated == (0, 0), "nothing is done again yet"
    assert choose("a") == 0 and feed.repeated == (4, 0)
    for number in (1, 2):
        assert choose("a") == number
        feed.trained(generation, number)
    checkpoint = feed.ahead(generation, 2)
    assert checkpoint is not None
    assert [choose("a"), choose("a")] == [3, 4]
    feed.trained(generation, 3)
    feed.trained(generation, 4)
    assert feed.ticket("in flight") is not None
    generation = feed.begin(2, *checkpoint, Repeated(4, 0))
    # Steps 2 and 3 are trained again and chosen again, 4 is chosen again, and so is 5, which was in flight.
    assert feed.repeated == (4 + 4 * 4, 2)
    feed.trained(generation, 2)
    for number in range(2, 7):
        assert choose("a") == number
        feed.trained(generation, number + 1)
    feed.lost("a")
    assert feed.ticket("dies") is not None
    feed.lost("dies")
    assert choose("a") == 7 and feed.repeated == (20, 2), "from step 6 on nothing is scored"
    again = Feed(plan)
    again.begin(2, *checkpoint, Repeated(20, 2))
    assert again.repeated == (20, 2), "a restarted feed continues from the checkpoint's ledger"
