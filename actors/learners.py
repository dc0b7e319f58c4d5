"""The learners of a run on a cluster: a group of processes under Ray Train, and the loop that each of them runs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.feed import TakenChoice
from actors.ray_cluster import unwrap
from actors.run_context import RunContext, choosing_models, publish
from actors.train_driver import TrainDriver
from actors.waiting import check, get, wait
from curation.core.errors import IncompleteError, TutelageError, UnavailableError
from curation.learning.run import Run
from curation.selection.checkpoint import latest_facts
from curation.selection.feed import FeedSettings
from curation.selection.online import OnlineStep, StepInfo, train_on
from curation.storage.store import open_store


class LearnerGroup:
    """The learners under Ray Train. They die with the actor that drives them."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.work = [ray.put(partial(train_loop, context))]
        self.folder = tempfile.TemporaryDirectory(prefix="tutelage-train-", ignore_cleanup_errors=True)
        self.begun = -1  # updates of the checkpoint after the last failure
        self._start()

    def _start(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        driver: Any = ray.remote(TrainDriver)
        self.driver: Any = driver.options(num_cpus=0, scheduling_strategy=here).remote()
        compute = self.context.compute
        resources = {"CPU": compute.learner_cpus, **({"GPU": compute.learner_gpus} if compute.learner_gpus else {})}
        environment = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
        self.over = self.driver.fit.remote(
            self.work, compute.learners, resources, compute.max_failures, self.folder.name, environment
        )

    def running(self) -> bool:
        """Return whether the learners are at work. Starts them again after failures if a new checkpoint exists.

        Raises `IncompleteError` if they failed `max_failures` times without a new checkpoint, or their driver died.
        """
        done, _ = wait([self.over], timeout=0)
        if not done:
            return True
        try:
            get(self.over)
        except ray.exceptions.RayActorError as error:
            check()
            # Its learners may still be ending, and must not run beside others.
            text = "the process that drives the learners died"
            raise IncompleteError(text, fix="run again to continue from the latest checkpoint") from error
        except ray.exceptions.RayError as error:
            self._restart(error)
            return True
        return False

    def _restart(self, error: ray.exceptions.RayError) -> None:
        recipe, failures = self.context.recipe, self.context.compute.max_failures + 1
        facts = latest_facts(open_store(recipe.output, recipe.options)) or {"ledger": {}}
        updates = facts["ledger"].get("updates", 0)
        if updates <= self.begun:
            words = " ".join(str(unwrap(error)).split())[-200:]
            text = f"the learners have failed {failures} times after {updates:,} updates; the last time: {words}"
            fix = "run again to continue from there; compute.max_failures allows more"
            raise IncompleteError(text, fix=fix) from error
        self.begun = updates
        ray.kill(self.driver)
        self._start()

    def kill(self) -> None:
        """End the learners, if they have not ended."""
        ray.kill(self.driver)
        self.folder.cleanup()


def train_loop(context: RunContext) -> None:
    """Train as one learner of the group. Called by Ray Train in the learner's process."""
    from ray.train import get_context
    from ray.train.torch import get_device

    world: Any = get_context()
    leads = world.get_world_rank() == 0
    torch.set_num_threads(context.recipe.threads or max(1, int(context.compute.learner_cpus)))
    try:
        device: Any = get_device()
        run = Run(context.recipe, *context.load(), device, learners=context.compute.learners)
        for model in run.participants.learning().values():
            model.distribute()
        for timed in run.participants.timed.values():
            timed.devices = world.get_world_size()
        for step, more in _fed(context, run, leads) if context.fed else _alone(context, run, leads):
            if leads:
                run.record(step, **more)
        if leads:
            get(context.feed.end.remote(run.finish()))
    except UnavailableError:
        raise  # the store may be back when Ray Train starts the learners again
    except TutelageError as error:
        get(context.feed.end.remote(None, error))  # it would happen again, so the learners are not started again


def _alone(context: RunContext, run: Run, leads: bool) -> Iterator[tuple[OnlineStep, dict[str, float]]]:
    """Make the remaining steps of a run without scoring: every learner computes the batches itself."""
    for step in run.steps():
        yield step, {}
        if leads:
            context.feed.tell.remote(step.number + 1, run.live())


def _fed(context: RunContext, run: Run, leads: bool) -> Iterator[tuple[OnlineStep, dict[str, float]]]:
    """Make the remaining steps on the choices that the feed holds."""
    from ray.train.collective import broadcast_from_rank_zero

    recipe, feed, pool = context.recipe, context.feed, run.pool
    roles, models = run.participants.roles(), choosing_models(run.participants)
    learner = recipe.learner
    settings = FeedSettings(
        selection=recipe.selection, steps=learner.steps, batch=learner.batch, moving=bool(models),
        buffer=context.compute.buffer or recipe.selection.lag + max(context.compute.actors, 1),
    )  # fmt: skip
    generation = None
    if leads:
        begin = feed.begin.remote(settings, run.learner.steps, pool.place, list(run.pending), run.ledger.repeated)
        generation = get(begin)
        reported = feed.trained.remote(generation, run.learner.steps, publish(models), run.live())

        def ahead() -> Any:
            get(reported)  # an asyncio actor may begin calls in another order
            return get(feed.ahead.remote(generation, run.learner.steps))

        run.ahead = ahead
    generation = broadcast_from_rank_zero(generation)

    def ask() -> Any:
        """Ask for the next choice, unless there is none."""
        return feed.take.remote(generation, done) if (done := run.learner.steps) < learner.steps else None

    coming = ask()
    while run.learner.steps < learner.steps:
        asked = time.monotonic()
        if leads:
            get(reported)
        taken: TakenChoice = get(coming)
        waited = time.monotonic() - asked
        run.ledger.repeated = taken.repeated
        for role, (samples, seconds) in taken.spent.items():
            run.participants.timed[role].add(samples, seconds)
        at = StepInfo(run.learner.steps, learner.steps, learner.batch, learner.seed)
        step = train_on(roles, pool, recipe.selection, taken.choice, at)
        done = run.learner.steps
        if leads:
            due = done % recipe.selection.publish_every == 0 and recipe.selection.scores(done, learner.steps)
            reported = feed.trained.remote(generation, done, publish(models) if due else None, run.live())
        coming = ask()  # the answer travels while the step is recorded
        yield step, {"buffer": taken.occupancy, "waited_seconds": waited}
    if leads:
        get(reported)
