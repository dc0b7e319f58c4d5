"""Leakage into an evaluation: scorers of the snapshot's recipe whose models were trained on the held-out samples.

Only the curated arm profits from that: its samples were chosen by a model that has seen the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.learning.leakage_check import HeldOutPart, HoldoutSplit, leak_of, models_of
from curation.learning.sources import RunData
from curation.storage.store import StoreOptions


def leaks_of_scorers(recipe: Mapping[str, Any], held_out: RunData, share: float) -> list[str]:
    """Return a line for each model that was, or may have been, trained on the held-out samples.

    recipe: a snapshot's recipe as its document holds it. share: of the names of `held_out`; 0: all its samples.
    Cost: a listing of the training data of each such model.
    """
    judged = HeldOutPart([held_out], HoldoutSplit(share))
    lines = list[str]()
    for entry in recipe.get("scorers") or ():
        ((kind, fields),) = entry.items()
        for weights in models_of(fields or {}):
            trained, line = leak_of(weights, judged, StoreOptions())
            about = f"the model of {kind} was trained on samples that models are judged on: " if trained else ""
            lines += [f"{about}{line}"] if line else []
    return lines
