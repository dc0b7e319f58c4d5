"""What the roles of a run cost: FLOPs of a forward pass, once a model and shape, and the reference's training."""

from __future__ import annotations

import json

from curation.errors import NotFoundError
from curation.flops import Prices
from curation.learners.learner import Learner, Training
from curation.learning.participants import Participants
from curation.learning.recipe import LearnRecipe
from curation.models import cost
from curation.online import Scored
from curation.store import open_store


def prices(participants: Participants) -> Prices:
    """The prices of a run. A model that scores at a reduced size pays for that size."""
    recipe, text = participants.recipe, not participants.classes
    online, reference = participants.online, participants.reference
    learner = recipe.training
    beforehand = 0.0
    if recipe.reference is not None and recipe.reference.weights is not None and reference is not None:
        beforehand = trained_flops(recipe.reference.weights, recipe)
    frozen = reference is None or isinstance(reference, Scored)
    return Prices(
        learner=training_flops(recipe.learner.model, learner, text=text),
        online=training_flops(online.model, online.training, text=text) if online is not None else 0.0,
        online_scoring=_scoring(online, text) if online is not None else None,
        reference=0.0 if frozen else training_flops(reference.model, reference.training, text=text),  # type: ignore[union-attr]
        reference_scoring=None if frozen else _scoring(reference, text),  # type: ignore[arg-type]
        reference_training=beforehand,
    )


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
