"""Online selection on a cluster: learners under Ray Train, actors that choose ahead of them, the feed in between.

    learners (DDP, `compute.learners`) --weights--> feed --tickets--> choosing actors --choices--> feed --> learners

The result equals `curation.selection.online` with the same lag: bit for bit with one learner, to rounding with more. If
- a choosing actor dies, its ticket is handed out again and another actor is started; actors join while there is room;
- a learner dies, Ray Train starts the group again, from the latest checkpoint, on the same sub-batches;
- the feed dies, Ray starts an empty one, and the learners start again as above;
- the driver dies, the same command continues from the latest checkpoint.

Tasks read candidates into the object store, window by window (`actors.blocks`). Every process maps those of its node
without copying them, and loads only the models that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from actors.blocks import BlockKeeper
from actors.choosers import ChooserGroup
from actors.feed import FeedActor, FeedState
from actors.learners import LearnerGroup
from actors.ray_cluster import ClusterError, address_of, cpus, explained, gpus, on_cluster
from actors.run_context import RunContext
from actors.waiting import get, wait
from curation.learning.data import Data, Progress, read_data
from curation.learning.pinned_input import finished, pin_input
from curation.recipes.learning_recipe import LearnRecipe
from curation.recipes.learning_sections import LearnCompute

LOOK_SECONDS = 0.5  # between two checks of actors, learners and feed by the driver
THREADS = 16  # of the keeper of blocks: callers that may wait for a shard at once


def learn(
    recipe: LearnRecipe, progress: Progress, note: Callable[[str], None], address: str | None = None
) -> dict[str, Any]:
    """Train a learner by a recipe on a cluster, or finish a run that was interrupted.

    address: of the cluster; by default RAY_ADDRESS, else one is started on this machine. progress: shows the progress
    of each phase. note: called with the ledger of compute. A recipe without `compute` uses its defaults.
    Returns the summary of the run; `reused` is true if the run was already finished.
    Raises `UserError` for data that don't suit the recipe, `ClusterError` for a cluster that is too small or fails.
    """
    pinned = pin_input(recipe)
    done = finished(recipe, pinned)
    if done is not None:
        return {**done, "reused": True}
    data = read_data(recipe, pinned, progress)
    state = on_cluster(address, lambda: _run(recipe, data, progress, note, address))
    assert state.summary is not None
    return {**state.summary, "reused": False}


def _run(
    recipe: LearnRecipe, data: Data, progress: Progress, note: Callable[[str], None], address: str | None
) -> FeedState:
    """Start the run's processes on the connected cluster, and oversee them until the run ends."""
    compute = recipe.compute or LearnCompute()
    shared = [ray.put(data)]
    keepers: Any = ray.remote(BlockKeeper)
    keeper = keepers.options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=THREADS
    ).remote(shared, compute.readers)  # fmt: skip
    feeds: Any = ray.remote(FeedActor)
    feed = feeds.options(num_cpus=0, max_restarts=-1).remote(keeper)
    context = RunContext(recipe, compute, shared, keeper, feed)
    lack = _lack(context)
    if lack is not None and address_of(address) is None:  # a named cluster may grow, so the run waits for it
        fix = "name fewer learners, or smaller learner_cpus and actor_cpus, learner_gpus and actor_gpus (or fractions)"
        raise ClusterError(f"{lack} on this machine", fix=fix)
    _read_first(keeper, progress)
    with progress(f"Training {recipe.learner.model}", recipe.learner.steps) as advance:
        return _oversee(context, advance, note)


def _read_first(keeper: Any, progress: Progress) -> None:
    """Wait until the first candidates are read; all of them, if they fit into memory."""
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


def _lack(context: RunContext) -> str | None:
    """Describe the resources that the learners need and the cluster doesn't have at present; None if it has all."""
    compute = context.compute
    who = "its learners and one actor" if context.fed else "its learners"
    for kind, learner, actor, there in (
        ("CPUs", compute.learner_cpus, compute.actor_cpus, cpus()),
        ("GPUs", compute.learner_gpus, compute.actor_gpus, gpus()),
    ):
        wanted = compute.learners * learner + (actor if context.fed else 0)
        if wanted > there:
            return f"`compute` requires {wanted:g} {kind} for {who}; there are {there:g}"
    return None


def _oversee(context: RunContext, advance: Callable[[int], None], note: Callable[[str], None]) -> FeedState:
    """Keep the actors alive and show the progress until the learners are done."""
    learners, choosers = LearnerGroup(context), ChooserGroup(context)
    shown = 0
    try:
        while learners.running():
            state = context.state()
            note(state.note or _lack(context) or "learners are starting")
            advance(state.position - shown)  # negative if learners restart from a checkpoint
            shown = state.position
            if state.error is not None:
                break
            choosers.tend(state, LOOK_SECONDS)
        state = context.state()
        advance(state.position - shown)
    finally:
        choosers.kill()
        learners.kill()
    if state.error is not None:
        raise state.error
    return state
