"""Runs of online selection in this process, without progress: what tests of them share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tiny_model import TINY

from curation.learning.blocks import LocalBlocks
from curation.learning.data import read_data
from curation.learning.learn import learn
from curation.learning.pinned_input import pin_input
from curation.learning.run import Run
from curation.recipes.learning_recipe import LearnRecipe

STEPS, BATCH = 12, 8  # of the runs of tests/curation/learning
CLASSES = f"learner={{classification: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}, label: name}}}}"


def quiet(label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda n: None)


def go(recipe: LearnRecipe, device: str = "cpu") -> dict[str, Any]:
    """The whole run, or what is left of it."""
    return learn(recipe, torch.device(device), quiet, lambda text: None)


def start(recipe: LearnRecipe, device: str = "cpu", learners: int = 1) -> Run:
    """A run that makes no step yet. `learners`: processes that share a batch."""
    data = read_data(recipe, pin_input(recipe), quiet)
    return Run(recipe, data, LocalBlocks(data.candidates, quiet), torch.device(device), learners=learners)
