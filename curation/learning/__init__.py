"""Runs of online selection: from a recipe to weights, metrics, a data policy and the ledger of compute.

recipe.py        what is to be done
data.py          what there is to read, and how a shard of it is read
blocks.py        candidates in this process, window by window
participants.py  learner, online model, reference, candidates
run.py           a run and its record; `learn` is the whole of it in one process
prices.py        FLOPs by role        metrics.py  lines of metrics        results.py  figures, summaries, curves
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from curation.learning.data import Progress
    from curation.recipes.learning_recipe import LearnRecipe


def learn(recipe: LearnRecipe, device: torch.device, progress: Progress, note: Callable[[str], None]) -> dict[str, Any]:
    """The whole run in this process, or what is left of it; returns its summary, with `reused` if it was there.

    `note` is told the ledger of compute, live.
    """
    from curation.learning.blocks import LocalBlocks
    from curation.learning.data import listed, read
    from curation.learning.results import finished
    from curation.learning.run import Run

    listing = listed(recipe)
    done = finished(recipe, listing)
    if done is not None:
        return {**done, "reused": True}
    data = read(recipe, listing, progress)
    with closing(LocalBlocks(data.candidates, progress)) as blocks:
        run = Run(recipe, data, blocks, device)
        with progress(f"Training {recipe.learner.model}", recipe.learner.steps) as advance:
            advance(run.learner.steps)
            for step in run.steps():
                run.record(step)
                note(run.live())
                advance(1)
        return {**run.finish(), "reused": False}


__all__ = [
    "blocks",
    "data",
    "learn",
    "overlap_check",
    "participants",
    "prices",
    "results",
    "run",
    "seen",
    "sources",
]
