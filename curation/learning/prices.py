"""What the roles of a run cost: FLOPs of a forward pass, once a model and shape, and the reference's training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from curation.errors import NotFoundError
from curation.flops import BACKWARD, Prices
from curation.learners.learner import Learner, Training
from curation.learning.data import snapshot_of
from curation.learning.participants import Participants
from curation.learning.recipe import LearnRecipe
from curation.models import cost
from curation.online import Scored
from curation.store import open_store


def prices(participants: Participants) -> Prices:
    """The prices of a run. A model that scores at a reduced size pays for that size."""
    recipe, text = participants.recipe, not participants.classes
    online, reference = participants.online, participants.reference
    model = reference if isinstance(reference, Learner) else None
    return Prices(
        learner=training_flops(recipe.learner.model, recipe.training, text=text),
        learner_passes=1.0 + BACKWARD + (recipe.learner.micro_batch > 0 and text),  # GradCache encodes twice
        online=training_flops(online.model, online.training, text=text) if online is not None else 0.0,
        online_scoring=_scoring(online, text) if online is not None else None,
        reference=training_flops(model.model, model.training, text=text) if model is not None else 0.0,
        reference_scoring=_scoring(model, text) if model is not None else None,
        reference_training=sum(_beforehand(participants)),
    )


def uncounted(participants: Participants) -> list[str]:
    """What the ledger can't know, in words: what a reference cost whose weights have no card beside them."""
    return [f"the training of {url}: no card beside the weights" for url, flops in _trained(participants) if not flops]


def _beforehand(participants: Participants) -> Iterator[float]:
    """FLOPs that were spent on the reference before the run: its training, and scoring the pool for its column."""
    for _, flops in _trained(participants):
        yield flops
    for scorer in _scorers(participants):
        yield forward_flops(scorer["model"], text=True) * len(participants.pool)


def _trained(participants: Participants) -> list[tuple[str, float]]:
    """Weights that a reference comes from, and what their training has cost; 0 where nobody knows."""
    recipe = participants.recipe
    urls = {scorer["weights"] for scorer in _scorers(participants) if "weights" in scorer}
    if participants.reference is not None and recipe.reference is not None and recipe.reference.weights is not None:
        urls.add(recipe.reference.weights)
    return [(url, trained_flops(url, recipe)) for url in sorted(urls)]


def _scorers(participants: Participants) -> list[dict[str, Any]]:
    """The scorers that made the column which is the reference: one, however many snapshots hold it."""
    recipe, reference = participants.recipe, participants.reference
    if not isinstance(reference, Scored) or recipe.reference is None:
        return []
    for url in participants.urls:
        snapshot = snapshot_of(url, recipe.options)
        for entry in snapshot.document["recipe"]["scorers"] if snapshot is not None else ():
            for name, fields in entry.items():
                if recipe.reference.column in (name, fields.get("name")) and "model" in fields:
                    return [fields]
    return []


def forward_flops(model: str, *, text: bool, size: int = 0) -> float:
    """One forward pass over one sample: the picture at `size` (0: the model's own) and, with `text`, its caption."""
    found = cost(model, size)
    return float(found.image_flops + (found.text_flops if text else 0))


def trained_flops(weights: str, recipe: LearnRecipe) -> float:
    """What the training of a reference has cost: from the card (or summary) that lies beside its weights; 0 without."""
    folder = open_store(weights.rpartition("/")[0] or ".", recipe.options)
    for name in ("card.json", "summary.json"):
        try:
            card = json.loads(folder.get(name))
        except (NotFoundError, ValueError):
            continue
        if "flops" in card:
            return float(card["flops"]["totals"]["full"])
        samples = int(card["steps"]) * int(card["recipe"]["training"]["batch"])
        return 3.0 * forward_flops(card["model"], text=True) * samples
    return 0.0


def training_flops(model: str, training: Training, *, text: bool) -> float:
    """Forward FLOPs a sample in training, of which a share may be at the reduced size."""
    share = training.reduced if training.scoring_size else 0.0
    small = forward_flops(model, text=text, size=training.scoring_size)
    return (1 - share) * forward_flops(model, text=text) + share * small


def _scoring(model: Learner, text: bool) -> float:
    return forward_flops(model.model, text=text, size=model.training.scoring_size)
