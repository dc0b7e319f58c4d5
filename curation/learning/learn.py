"""A whole run of online selection in this process: the definition of what `actors.learning` does on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import torch

from curation.core.progress import progress as show_progress
from curation.learning.blocks import LocalBlocks
from curation.learning.data import Progress, read_data
from curation.learning.pinned_input import finished, pin_input
from curation.learning.run import Run
from curation.models.devices import pick_device, use_threads
from curation.recipes.learning_recipe import LearnRecipe, load_learn_recipe


def learn(
    recipe: LearnRecipe | str | Path,
    device: torch.device | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a learner by a recipe, or finish a run that was interrupted. Imports no Ray.

    recipe: a recipe or the path of one. Its section `compute` is ignored: this process does everything.
    device: by default the recipe's. progress: shows the progress of each phase; by default on stderr.
    note: called with the ledger of compute after each update. overrides: `key=value`, as of `curate learn --set`, of a
    recipe that is given by its path.
    Returns the summary of the run, with `reused` where it was finished already.
    Raises `UserError` for data that don't suit the recipe.
    """
    if not isinstance(recipe, LearnRecipe):
        recipe = load_learn_recipe(recipe, overrides)
    progress = progress or _progress
    use_threads(recipe.threads)
    pinned = pin_input(recipe)
    done = finished(recipe, pinned)
    if done is not None:
        return {**done, "reused": True}
    data = read_data(recipe, pinned, progress)
    with closing(LocalBlocks(data.candidates, progress)) as blocks:
        run = Run(recipe, data, blocks, device or pick_device(recipe.device))
        with progress(f"Training {recipe.learner.model}", recipe.learner.steps) as advance:
            advance(run.learner.steps)
            for step in run.steps():
                run.record(step)
                note(run.live())
                advance(1)
        return {**run.finish(), "reused": False}


def _progress(label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    return show_progress(label, total, "steps" if label.startswith("Training") else "samples")
