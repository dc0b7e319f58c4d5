"""FLOP prices of a run's roles, and the compute that was spent before the run: the reference, its column, a policy."""

from __future__ import annotations

import json
from collections.abc import Sequence

from curation.core.errors import NotFoundError, UserError
from curation.learners.learner import Learner
from curation.learning.model_flops import forward_flops, training_flops, trimmed
from curation.learning.participants import Participants
from curation.learning.summaries import summary_of
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import bucket_lengths
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import BACKWARD, Prices
from curation.storage.store import StoreOptions, open_store


def prices(participants: Participants, learners: int) -> tuple[Prices, list[str]]:
    """Return the prices of a run, and a line for each cost that is unknown.

    learners: processes that share a batch. A model that scores at a reduced size is charged for that size.
    """
    recipe, learner, online = participants.recipe, participants.learner, participants.online
    reference = participants.reference if isinstance(participants.reference, Learner) else None
    assert learner is not None, "the process that keeps the ledger trains the learner"
    text, pairs = learner.reads_captions, recipe.selection.selector.needs_pairs()
    spent, unknown = _spent_before(participants)
    found = Prices(
        learner=_training(learner),
        learner_passes=1.0 + BACKWARD + (text and _encodes_twice(recipe, learners)),
        online=_training(online) if online is not None else 0.0,
        online_scoring=_scoring(online) if online is not None else None,
        online_pairs=online.pair_flops() if pairs and online is not None else 0.0,
        reference=_training(reference) if reference is not None else 0.0,
        reference_scoring=_scoring(reference) if reference is not None else None,
        reference_pairs=reference.pair_flops() if pairs and reference is not None else 0.0,
        reference_training=spent,
        trimmed={role: trimmed(one.model) for role, one in participants.models().items()} if text else {},
    )
    return found, unknown


def trained_flops(weights: str, sha256: str | None, options: StoreOptions) -> float:
    """Return the FLOPs of the training of a reference, from the card or summary beside its weights; 0 without one.

    weights: their URL. sha256: of the file; a card of other weights doesn't count.
    """
    folder = open_store(weights.rpartition("/")[0] or ".", options)
    for name in ("card.json", "summary.json"):
        try:
            card = json.loads(folder.get(name))
        except (NotFoundError, ValueError, RecursionError):
            continue
        try:
            if card["sha256"] != sha256:
                continue
            if "flops" in card:
                return float(card["flops"]["totals"]["full"])
            samples = int(card["steps"]) * int(card["recipe"]["training"]["batch"])
            return 3.0 * forward_flops(card["model"], text=True) * samples
        except (KeyError, TypeError, ValueError, OverflowError):  # another program's card
            continue
    return 0.0


def _encodes_twice(recipe: LearnRecipe, learners: int) -> bool:
    """Return whether GradCache trains batches in parts: where a learner's share is larger than a part."""
    return 0 < recipe.learner.micro_batch < recipe.learner.batch // learners


def _spent_before(participants: Participants) -> tuple[float, list[str]]:
    """Return the FLOPs that were spent before the run, and a line for each cost that is unknown.

    They are the training of the reference, the scoring of all samples of the snapshots' sources for its column, and the
    choices that a replay repeats. Unknown are weights without a card, columns that no scorer of one model made, and
    choices without a summary.
    """
    recipe, column, spent = participants.recipe, participants.column, 0.0
    files: list[tuple[str, str | None]] = []
    unknown: list[str] = []
    weights = recipe.reference_weights()
    if participants.reference is not None and weights is not None:
        files.append((weights.url, weights.sha256))
    if column is not None:
        scorer = column.scorer
        if scorer is None:
            unknown.append(f"what made the column {column.name}: no scorer of one model")
        else:
            spent += _scorer_flops(scorer["model"], participants.captions) * column.scored
            files += [(scorer["weights"], scorer.get("sha256"))] if "weights" in scorer else []
    for url, sha256 in files:
        flops = trained_flops(url, sha256, recipe.options)
        spent += flops
        unknown += [] if flops else [f"the training of {url}: no card of it beside the weights"]
    if recipe.replay is not None:
        try:
            parts = summary_of(recipe.replay, recipe)["flops"]["parts"]
            spent += sum(parts.values()) - parts["learning"]
        except (UserError, KeyError):
            unknown.append(f"what choosing has cost {recipe.replay}: no summary of it")
    return spent, unknown


def _scorer_flops(model: str, captions: Sequence[str]) -> float:
    """Return the FLOPs of scoring a sample with a dual encoder.

    The captions of the scored samples are not at hand: those of the held-out samples stand for them.
    """
    whole = forward_flops(model, text=True)
    if not captions:
        return whole
    lengths, less = bucket_lengths(tokenizer_for(model)(captions)), trimmed(model)
    return whole - sum(less.get(length, 0.0) for length in lengths.tolist()) / len(captions)


def _training(model: Learner) -> float:
    """Return the FLOPs of a forward pass over one sample in training."""
    return training_flops(model.model, model.training, text=model.reads_captions) + model.head_flops()


def _scoring(model: Learner) -> float:
    """Return the FLOPs of a forward pass over one candidate."""
    size = model.training.scoring_size
    return forward_flops(model.model, text=model.reads_captions, size=size) + model.head_flops()
