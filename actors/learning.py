"""Online selection on a cluster: learners under Ray Train, actors that choose ahead of them, the feed in between.

    learners (DDP, `compute.learners`) --weights--> feed --tickets--> choosing actors --choices--> feed --> learners

Equal to `curation.selection.online` for the same lag: bit for bit with one learner, to rounding with more. What dies:
- a choosing actor: its ticket is handed out again and another actor is started; actors join while there is room;
- a learner: Ray Train starts the group anew, from the latest checkpoint, on the same sub-batches;
- the feed: Ray starts an empty one, and the learners as above;
- the driver: the same command goes on from the latest checkpoint.

Candidates are read by tasks into the object store, window by window (`actors.blocks`); every process has those of its
node (zero copies), and of the models those that it needs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.blocks import BlockKeeper, SharedBlocks
from actors.cluster import ClusterError, address_of, cpus, explained, gpus, on_cluster, unwrap
from actors.feed import ChoosingOrder, FeedActor, FeedState, ModelWeights, Spent, TakenChoice
from actors.train_driver import TrainDriver
from actors.waiting import check, get, wait
from curation.core.errors import IncompleteError, TutelageError, UnavailableError
from curation.learners.learner import Learner
from curation.learning.data import Data, Progress, listed, read
from curation.learning.participants import Participants
from curation.learning.results import finished
from curation.learning.run import Run
from curation.recipes.learning_recipe import LearnRecipe
from curation.recipes.learning_sections import LearnCompute
from curation.selection.checkpoint import latest_facts
from curation.selection.feed import FeedSettings
from curation.selection.flops import Repeated
from curation.selection.online import OnlineStep, StepInfo, choose, moving, train_on
from curation.storage.store import open_store

LOOK_SECONDS = 0.5  # between two looks of the driver at actors, learners and feed
THREADS = 16  # of the keeper of blocks: so many may ask at once while it waits for a shard
DEATHS = 20  # of choosing actors before they made a choice; then the run ends, since something kills them all


@dataclass(frozen=True)
class RunContext:
    """What every process of a run is given."""

    recipe: LearnRecipe
    data: list[Any]  # one reference; in a list, so that it travels as a reference
    keeper: Any
    feed: Any

    @property
    def compute(self) -> LearnCompute:
        assert self.recipe.compute is not None
        return self.recipe.compute

    @property
    def fed(self) -> bool:
        """Whether somebody has to choose; else every learner knows its batches by itself."""
        return bool(self.recipe.selection.selector.roles())

    def given(self) -> tuple[Data, SharedBlocks]:
        """What there is to read, and the candidates, in the object store of this node."""
        data: Data = get(self.data[0])
        return data, SharedBlocks(self.keeper, data.candidates)


def learn(
    recipe: LearnRecipe, progress: Progress, note: Callable[[str], None], address: str | None = None
) -> dict[str, Any]:
    """The whole run, or what is left of it, on a cluster; returns its summary, with `reused` if it was there."""
    listing = listed(recipe)
    done = finished(recipe, listing)
    if done is not None:
        return {**done, "reused": True}
    data = read(recipe, listing, progress)
    state = on_cluster(address, lambda: _run(recipe, data, progress, note, address))
    assert state.summary is not None
    return {**state.summary, "reused": False}


def _run(
    recipe: LearnRecipe, data: Data, progress: Progress, note: Callable[[str], None], address: str | None
) -> FeedState:
    """Start the run's processes on the cluster that is there, and see them through, from the latest checkpoint on."""
    told = [ray.put(data)]
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    assert recipe.compute is not None
    readers = recipe.compute.readers
    keeper = ray.remote(BlockKeeper).options(max_concurrency=THREADS, **lasting).remote(told, readers)
    feed = ray.remote(FeedActor).options(num_cpus=0, max_restarts=-1).remote(keeper)
    job = RunContext(recipe, told, keeper, feed)
    lack = _lack(job)
    if lack is not None and address_of(address) is None:  # a cluster may grow, and is waited for
        fix = "fewer learners, or smaller learner_cpus and actor_cpus, learner_gpus and actor_gpus (or fractions)"
        raise ClusterError(f"{lack} on this machine", fix=fix)
    _begin(keeper, progress)
    with progress(f"Training {recipe.learner.model}", recipe.learner.steps) as advance:
        return _oversee(job, advance, note)


def _begin(keeper: Any, progress: Progress) -> None:
    """Have the first candidates read; all of them, where memory holds them."""
    ready, shown = keeper.ready.remote(), 0
    with progress("Reading candidates", None) as advance:
        while not wait([ready], timeout=LOOK_SECONDS)[0]:
            there = sum(get(keeper.known.remote()).samples.values())
            advance(there - shown)
            shown = there
    try:
        get(ready)
    except ray.exceptions.RayError as error:
        raise explained(error) from None


def _lack(job: RunContext) -> str | None:
    """What the cluster does not have, as it is now, and the learners wait for."""
    compute = job.compute
    who = "its learners and one actor" if job.fed else "its learners"
    for kind, learner, actor, there in (
        ("CPUs", compute.learner_cpus, compute.actor_cpus, cpus()),
        ("GPUs", compute.learner_gpus, compute.actor_gpus, gpus()),
    ):
        wanted = compute.learners * learner + (actor if job.fed else 0)
        if wanted > there:
            return f"compute wants {wanted:g} {kind} for {who}; there are {there:g}"
    return None


def _oversee(job: RunContext, advance: Callable[[int], None], note: Callable[[str], None]) -> FeedState:
    """Keep the actors alive until the learners are done; show where they are."""
    learners = _Learners(job)
    actors = _Actors(job)
    shown = 0
    try:
        while learners.running():
            state = _state(job)
            note(state.note or _lack(job) or "learners are starting")
            advance(state.position - shown)  # backwards where learners begin again from a checkpoint
            shown = state.position
            if state.error is not None:
                break
            actors.tend(state, LOOK_SECONDS)
        state = _state(job)
        advance(state.position - shown)
    finally:
        actors.kill()
        learners.kill()
    if state.error is not None:
        raise state.error
    return state


def _state(job: RunContext) -> FeedState:
    try:
        state: FeedState = get(job.feed.state.remote())
    except ray.exceptions.RayActorError:
        check()
        return FeedState(0, "", Repeated(), None, None)  # it is being started again
    return state


class _Learners:
    """The learners, under Ray Train; they die with the actor that drives them."""

    def __init__(self, job: RunContext) -> None:
        self.job = job
        self.work = [ray.put(partial(train_loop, job))]
        self.folder = tempfile.TemporaryDirectory(prefix="tutelage-train-", ignore_cleanup_errors=True)
        self.begun = -1  # updates at the checkpoint that the last failure left
        self._start()

    def _start(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.driver = ray.remote(TrainDriver).options(num_cpus=0, scheduling_strategy=here).remote()
        compute = self.job.compute
        resources = {"CPU": compute.learner_cpus, **({"GPU": compute.learner_gpus} if compute.learner_gpus else {})}
        environment = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
        self.over = self.driver.fit.remote(
            self.work, compute.learners, resources, compute.max_failures, self.folder.name, environment
        )

    def running(self) -> bool:
        """Whether they go on. Those that failed `max_failures` times begin again if they got to a new checkpoint."""
        done, _ = wait([self.over], timeout=0)
        if not done:
            return True
        try:
            get(self.over)
        except ray.exceptions.RayActorError as error:
            check()
            # Its learners may still be ending, and must not meet others.
            text = "the process that drives the learners died"
            raise IncompleteError(text, fix="run again to go on from the latest checkpoint") from error
        except ray.exceptions.RayError as error:
            facts = latest_facts(open_store(self.job.recipe.output, self.job.recipe.options)) or {"ledger": {}}
            updates = facts["ledger"].get("updates", 0)
            if updates <= self.begun:
                words = " ".join(str(unwrap(error)).split())[-200:]
                text = f"the learners have failed {self.job.compute.max_failures + 1} times after {updates:,} updates"
                fix = "run again to go on from there; compute.max_failures allows more"
                raise IncompleteError(f"{text}; the last time: {words}", fix=fix) from error
            self.begun = updates
            ray.kill(self.driver)
            self._start()
            return True
        return False

    def kill(self) -> None:
        """End them, if they have not ended."""
        ray.kill(self.driver)
        self.folder.cleanup()


class _Actors:
    """The choosing actors: started where there is room, and again when they die."""

    def __init__(self, job: RunContext) -> None:
        self.job = job
        self.running: dict[Any, tuple[str, Any]] = {}  # its only call -> name, actor
        self.started = self.deaths = 0

    def tend(self, state: FeedState, seconds: float) -> None:
        """Start what is missing, end what there is no room for any more, then wait for a death, at most so long."""
        while len(self.running) > self._room():  # a node has gone, and learners that begin again want what is left
            name, actor = self.running.pop(list(self.running)[-1])
            ray.kill(actor)
            self.job.feed.died.remote(name)
        while self.job.fed and state.summary is None and len(self.running) < self._room():
            compute, name = self.job.compute, f"actor {self.started}"
            actor = ray.remote(ChoosingActor).options(
                num_cpus=compute.actor_cpus, num_gpus=compute.actor_gpus or None, max_restarts=0
            ).remote(self.job, name)  # fmt: skip
            self.running[actor.run.remote()] = (name, actor)
            self.started += 1
        if not self.running:
            time.sleep(seconds)
            return
        done, _ = wait(list(self.running), timeout=seconds)
        for ref in done:
            name, _ = self.running.pop(ref)
            try:
                get(ref)
            except ray.exceptions.RayActorError:
                check()  # deaths of a cluster are none of theirs
                self._died(name)
            except ray.exceptions.RayTaskError as error:
                if isinstance(found := unwrap(error), UnavailableError):
                    self._died(name, found)
                else:
                    self._failed(found)

    def _died(self, name: str, why: UnavailableError | None = None) -> None:
        """`why`: where it was not killed, but could not reach the store."""
        self.deaths += 1
        if self.deaths > DEATHS + _state(self.job).position:
            fix = "smaller super-batches, or more memory for each actor (fewer compute.actors)"
            self._failed(why or IncompleteError("every choosing actor dies before it has chosen", fix=fix))
            return
        self.job.feed.died.remote(name)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, TutelageError):
            raise error
        get(self.job.feed.end.remote(None, error))

    def _room(self) -> int:
        compute = self.job.compute
        room = (cpus() - compute.learners * compute.learner_cpus) / compute.actor_cpus
        if compute.actor_gpus:
            room = min(room, (gpus() - compute.learners * compute.learner_gpus) / compute.actor_gpus)
        return max(1, min(int(room + 1e-9), compute.actors))

    def kill(self) -> None:
        for _, actor in self.running.values():
            ray.kill(actor)


class ChoosingActor:
    """Scores super-batches with the latest models that are due, and chooses sub-batches, until the run is over."""

    def __init__(self, job: RunContext, name: str) -> None:
        self.job, self.name = job, name

    def run(self) -> int:
        """Returns how many choices were made here."""
        compute, recipe = self.job.compute, self.job.recipe
        torch.set_num_threads(recipe.threads or max(1, int(compute.actor_cpus)))
        gpu = compute.actor_gpus > 0 and torch.cuda.is_available()
        who = Participants(recipe, *self.job.given(), torch.device("cuda" if gpu else "cpu"), learns=False)
        roles, settings, made = who.roles(), recipe.learner, 0
        loaded: tuple[str, int] | None = None  # generation and version of the weights that are in the models
        while (order := self._order()) is not None:
            ticket = order.ticket
            if order.weights is not None and (ticket.generation, ticket.version) != loaded:
                if not _load(who, order.weights, ticket.version):
                    get(self.job.feed.give_up.remote(self.name, ticket.generation))
                    continue
                loaded = ticket.generation, ticket.version
            before = _spent(who)
            candidates = who.pool.at(ticket.place, ticket.size)
            at = StepInfo(ticket.number, settings.steps, settings.batch, settings.seed)
            choice = choose(roles, recipe.selection, candidates, at, version=ticket.version)
            after = _spent(who)
            spent = {role: (n - before[role][0], s - before[role][1]) for role, (n, s) in after.items()}
            get(self.job.feed.put.remote(ticket.generation, choice, spent))
            made += 1
        return made

    def _order(self) -> ChoosingOrder | None:
        found: ChoosingOrder | None = get(self.job.feed.ticket.remote(self.name))
        return found


def _load(who: Participants, weights: ModelWeights, version: int) -> bool:
    """Take over published weights; False where they are gone, with the learner that published them."""
    try:  # all of them before one is taken over: models of two versions must not choose together
        found = {role: get(reference) for role, (reference,) in weights.tensors.items()}
    except ray.exceptions.ObjectLostError:
        return False
    models = _choosers(who)
    for role, tensors in found.items():
        models[role].become(tensors, version, weights.fingerprints[role])
    return True


def _spent(who: Participants) -> Spent:
    return {role: (timed.samples, timed.seconds) for role, timed in who.timed.items()}


def _choosers(who: Participants) -> Mapping[str, Learner]:
    """The models that choose and learn, by role, without their clocks."""
    found: dict[str, Learner] = {}
    for role in moving(who.roles(), who.recipe.selection):
        model = who.online if role == "online" else who.reference
        assert isinstance(model, Learner)
        found[role] = model
    return found


def train_loop(job: RunContext) -> None:
    """One learner of a group, under Ray Train."""
    from ray.train import get_context
    from ray.train.torch import get_device

    leads = get_context().get_world_rank() == 0
    torch.set_num_threads(job.recipe.threads or max(1, int(job.compute.learner_cpus)))
    try:
        run = Run(job.recipe, *job.given(), get_device())
        for model in run.participants.learning().values():
            model.distribute()
        for timed in run.participants.timed.values():
            timed.devices = get_context().get_world_size()
        for step, more in _fed(job, run, leads) if job.fed else _alone(job, run, leads):
            if leads:
                run.record(step, **more)
        if leads:
            get(job.feed.end.remote(run.finish()))
    except UnavailableError:
        raise  # the store may be back when Ray Train starts the learners again
    except TutelageError as error:
        get(job.feed.end.remote(None, error))  # it would only come again, so the learners are not started again


def _alone(job: RunContext, run: Run, leads: bool) -> Iterator[tuple[OnlineStep, dict[str, float]]]:
    """Nothing is scored, so every learner knows the batches by itself."""
    for step in run.steps():
        yield step, {}
        if leads:
            job.feed.tell.remote(step.number + 1, run.live())


def _fed(job: RunContext, run: Run, leads: bool) -> Iterator[tuple[OnlineStep, dict[str, float]]]:
    """The steps that are left, on what the feed holds ready."""
    from ray.train.collective import broadcast_from_rank_zero

    recipe, feed, pool = job.recipe, job.feed, run.pool
    roles, choosers = run.participants.roles(), _choosers(run.participants)
    settings = recipe.learner
    plan = FeedSettings(
        selection=recipe.selection, steps=settings.steps, batch=settings.batch, moving=bool(choosers),
        buffer=job.compute.buffer or recipe.selection.lag + max(job.compute.actors, 1),
    )  # fmt: skip
    generation = None
    if leads:
        generation = get(feed.begin.remote(plan, run.learner.steps, pool.place, list(run.pending), run.ledger.repeated))
        run.ahead = lambda: get(feed.ahead.remote(generation, run.learner.steps))
        get(feed.trained.remote(generation, run.learner.steps, _publish(choosers), run.live()))
    generation = broadcast_from_rank_zero(generation)
    while run.learner.steps < settings.steps:
        asked = time.monotonic()
        taken: TakenChoice = get(feed.take.remote(generation, run.learner.steps))
        waited = time.monotonic() - asked
        run.ledger.repeated = taken.repeated
        for role, (samples, seconds) in taken.spent.items():
            run.participants.timed[role].add(samples, seconds)
        at = StepInfo(run.learner.steps, settings.steps, settings.batch, settings.seed)
        step = train_on(roles, pool, recipe.selection, taken.choice, at)
        done = run.learner.steps
        if leads:
            due = done % recipe.selection.publish_every == 0 and recipe.selection.scores(done, settings.steps)
            get(feed.trained.remote(generation, done, _publish(choosers) if due else None, run.live()))
        yield step, {"buffer": taken.occupancy, "waited_seconds": waited}


def _publish(choosers: Mapping[str, Learner]) -> ModelWeights | None:
    """The models that choose as they are now, in the object store."""
    if not choosers:
        return None
    tensors = {role: [ray.put(model.tensors(averaged=False))] for role, model in choosers.items()}
    return ModelWeights(tensors, {role: model.fingerprint() for role, model in choosers.items()})
