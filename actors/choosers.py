"""The actors of a run that choose sub-batches ahead of the learners, with the published models."""

from __future__ import annotations

import time
from typing import Any

import ray
import torch

from actors.feed import ChoosingOrder, FeedState, ModelWeights
from actors.ray_cluster import cpus, gpus, unwrap
from actors.run_context import RunContext, as_tensors, choosing_models, spent_by
from actors.waiting import check, get, wait
from curation.core.errors import IncompleteError, TutelageError, UnavailableError
from curation.learning.participants import Participants
from curation.selection.online import StepInfo, choose

DEATHS = 20  # of choosing actors before their first choice; then the run ends, since every actor dies


class ChooserGroup:
    """The choosing actors: started where there is room, and again when they die."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.running: dict[Any, tuple[str, Any]] = {}  # an actor's only call -> its name, the actor
        self.started = self.deaths = 0

    def tend(self, state: FeedState, seconds: float) -> None:
        """End actors without room, start missing ones, then wait for a death for at most `seconds`."""
        while len(self.running) > self._room():  # a node was lost, and the restarted learners need these resources
            name, actor = self.running.pop(list(self.running)[-1])
            ray.kill(actor)
            self.context.feed.died.remote(name)
        while self.context.fed and state.summary is None and len(self.running) < self._room():
            self._start()
        if not self.running:
            time.sleep(seconds)
            return
        done, _ = wait(list(self.running), timeout=seconds)
        for ref in done:
            name, _ = self.running.pop(ref)
            try:
                get(ref)
            except ray.exceptions.RayActorError:
                check()  # the actor is not to blame if the cluster is lost
                self._died(name)
            except ray.exceptions.RayTaskError as error:
                if isinstance(found := unwrap(error), UnavailableError):
                    self._died(name, found)
                else:
                    self._failed(found)

    def kill(self) -> None:
        """End all actors."""
        for _, actor in self.running.values():
            ray.kill(actor)

    def _start(self) -> None:
        compute, name = self.context.compute, f"actor {self.started}"
        remote: Any = ray.remote(ChoosingActor)
        options = {"num_cpus": compute.actor_cpus, "num_gpus": compute.actor_gpus or None, "max_restarts": 0}
        actor = remote.options(**options).remote(self.context, name)
        self.running[actor.run.remote()] = (name, actor)
        self.started += 1

    def _died(self, name: str, why: UnavailableError | None = None) -> None:
        """Report a death to the feed, or end the run after too many. why: the store could not be reached."""
        self.deaths += 1
        if self.deaths > DEATHS + self.context.state().position:
            fix = "smaller super-batches, or more memory for each actor (fewer compute.actors)"
            self._failed(why or IncompleteError("every choosing actor dies before it has chosen", fix=fix))
            return
        self.context.feed.died.remote(name)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, TutelageError):
            raise error
        get(self.context.feed.end.remote(None, error))

    def _room(self) -> int:
        """Return how many actors fit beside the learners: at least one, at most `compute.actors`."""
        compute = self.context.compute
        room = (cpus() - compute.learners * compute.learner_cpus) / compute.actor_cpus
        if compute.actor_gpus:
            room = min(room, (gpus() - compute.learners * compute.learner_gpus) / compute.actor_gpus)
        return max(1, min(int(room + 1e-9), compute.actors))


class ChoosingActor:
    """An actor that chooses sub-batches, each with the version of the models that is due, until the run is over."""

    def __init__(self, context: RunContext, name: str) -> None:
        self.context, self.name = context, name

    def run(self) -> int:
        """Choose until the run is over; return the number of choices."""
        compute, recipe = self.context.compute, self.context.recipe
        torch.set_num_threads(recipe.threads or max(1, int(compute.actor_cpus)))
        gpu = compute.actor_gpus > 0 and torch.cuda.is_available()
        device = torch.device("cuda" if gpu else "cpu")
        participants = Participants(recipe, *self.context.load(), device, learns=False)
        roles, learner, made = participants.roles(), recipe.learner, 0
        loaded: tuple[str, int] | None = None  # generation and version of the loaded weights
        while (order := self._order()) is not None:
            ticket = order.ticket
            if order.weights is not None and (ticket.generation, ticket.version) != loaded:
                if not load_weights(participants, order.weights, ticket.version):
                    get(self.context.feed.give_up.remote(self.name, ticket.generation))
                    continue
                loaded = ticket.generation, ticket.version
            before = spent_by(participants)
            pool = participants.pool
            rows = pool.rows_at(ticket.place, ticket.size)
            at = StepInfo(ticket.number, learner.steps, learner.batch, learner.seed)
            choice = choose(roles, pool, recipe.selection, rows, at, version=ticket.version)
            after = spent_by(participants)
            spent = {role: (n - before[role][0], s - before[role][1]) for role, (n, s) in after.items()}
            get(self.context.feed.put.remote(ticket.generation, choice, spent))
            made += 1
        return made

    def _order(self) -> ChoosingOrder | None:
        found: ChoosingOrder | None = get(self.context.feed.ticket.remote(self.name))
        return found


def load_weights(participants: Participants, weights: ModelWeights, version: int) -> bool:
    """Load published weights into the choosing models. Return False if they were lost with their owner."""
    try:  # fetch all before loading one: models of two versions must not choose together
        found = {role: get(reference) for role, (reference,) in weights.items()}
    except ray.exceptions.ObjectLostError:
        return False
    models = choosing_models(participants)
    for role, arrays in found.items():
        models[role].load_published(as_tensors(arrays), version)
    return True
