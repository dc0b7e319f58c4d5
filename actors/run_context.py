"""The context that every process of a learning run on a cluster receives, and its waits for the run's actors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

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
    """Put the current weights of the choosing models into the object store. None without such models.

    As NumPy arrays, which Ray copies once: it pickles tensors in parts, in four times the time (14 MB: 15 ms). The
    processes that choose compute the fingerprint (0.7 ms a MB), so that the learner need not.
    """
    if not models:
        return None
    return {role: [ray.put(as_arrays(model.module.state_dict()))] for role, model in models.items()}


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Return views of tensors in this machine's memory, or copies of those on a GPU."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def as_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    """Return views of arrays in the object store. They must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
