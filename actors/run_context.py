"""The context that every process of a learning run on a cluster receives, and its waits for the run's actors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from actors.blocks import SharedBlocks
from actors.feed import FeedState, ModelWeights, Spent
from actors.waiting import check, get
from curation.learners.learner import Learner
from curation.learning.data import Data
from curation.learning.participants import Participants
from curation.recipes.learning_recipe import LearnRecipe
from curation.recipes.learning_sections import LearnCompute
from curation.selection.flops import Repeated
from curation.selection.online import learning_models


@dataclass(frozen=True)
class RunContext:
    """A learning run on a cluster: its recipe, the use of the cluster, its data and its actors.

    data: one reference, in a list, so that it is sent as a reference. keeper: the actor of the blocks. feed: the actor
    that hands sub-batches to the learners.
    """

    recipe: LearnRecipe
    compute: LearnCompute
    data: list[Any]
    keeper: Any
    feed: Any

    @property
    def fed(self) -> bool:
        """Whether actors choose sub-batches; if not, every learner computes its own batches."""
        return bool(self.recipe.selection.selector.roles())

    def load(self) -> tuple[Data, SharedBlocks]:
        """Return the run's data, and the candidates in the object store of this node."""
        data: Data = get(self.data[0])
        return data, SharedBlocks(self.keeper, data.candidates)

    def state(self) -> FeedState:
        """Return the state of the feed; an empty one while Ray restarts it."""
        try:
            state: FeedState = get(self.feed.state.remote())
        except ray.exceptions.RayActorError:
            check()
            return FeedState(0, "", Repeated(), None, None)
        return state


def spent_by(participants: Participants) -> Spent:
    """Return the samples and device-seconds of each role so far."""
    return {role: (timed.samples, timed.seconds) for role, timed in participants.timed.items()}


def choosing_models(participants: Participants) -> Mapping[str, Learner]:
    """Return the models that choose and learn, by role, without their clocks."""
    found: dict[str, Learner] = {}
    for role in learning_models(participants.roles(), participants.recipe.selection):
        model = participants.online if role == "online" else participants.reference
        assert isinstance(model, Learner)
        found[role] = model
    return found


def publish(models: Mapping[str, Learner]) -> ModelWeights | None:
    """Put the current weights of the choosing models into the object store. None without such models."""
    if not models:
        return None
    tensors = {role: [ray.put(model.tensors(averaged=False))] for role, model in models.items()}
    return ModelWeights(tensors, {role: model.fingerprint() for role, model in models.items()})
