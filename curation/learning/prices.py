"""What the roles of a run cost: FLOPs of a forward pass, once a model and shape, and the reference's training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import torch

from curation.core.errors import NotFoundError, UserError
from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.learning.columns import scorer_of
from curation.learning.participants import Participants
from curation.learning.results import summary_of
from curation.learning.sources import snapshot_of
from curation.models import cost, model_config
from curation.models.architecture import build_model
from curation.models.dual import bucket_lengths, encode_text, trims
from curation.models.tokenizer import tokenizer_for
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import BACKWARD, Prices
from curation.selection.online import TableScores
from curation.storage.store import open_store


def prices(participants: Participants) -> tuple[Prices, list[str]]:
    """The prices of a run, and what the ledger can't know, in words. A model that scores at a reduced size pays for
    that size."""
    recipe, learner, online = participants.recipe, participants.learner, participants.online
    reference = participants.reference if isinstance(participants.reference, Learner) else None
    assert learner is not None, "the process that keeps the ledger trains the learner"
    text, pairs = learner.reads_captions, recipe.selection.selector.needs_pairs()
    spent, unknown = _beforehand(participants)
    found = Prices(
        learner=_training(learner),
        learner_passes=1.0 + BACKWARD + (text and _encodes_twice(recipe)),
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


def _encodes_twice(recipe: LearnRecipe) -> bool:
    """Whether batches are trained in parts by GradCache: where a learner's share is larger than a part."""
    learners = recipe.compute.learners if recipe.compute is not None else 1
    return 0 < recipe.learner.micro_batch < recipe.learner.batch // learners


def _beforehand(participants: Participants) -> tuple[float, list[str]]:
    """FLOPs that were spent before the run: on the reference's training, on scoring all of what snapshots were made
    from for its column, and on the choices that are replayed. And what nobody knows: the cost of weights that have no
    card of theirs beside them, of a column that no scorer of one model made, of choices that have no summary."""
    recipe, reference, spent = participants.recipe, participants.reference, 0.0
    files: list[tuple[str, str | None]] = []
    unknown: list[str] = []
    weights = recipe.reference_weights()
    if reference is not None and weights is not None:
        files.append((weights.url, weights.sha256))
    if isinstance(reference, TableScores) and recipe.reference is not None:
        scorer = scorer_of(str(recipe.reference.column), participants.urls, recipe.options)
        if scorer is None:
            unknown.append(f"what made the column {recipe.reference.column}: no scorer of one model")
        else:
            spent += _scorer_flops(scorer["model"], participants.captions) * _scored(participants)
            files += [(scorer["weights"], scorer.get("sha256"))] if "weights" in scorer else []
    for url, sha256 in files:
        flops = trained_flops(url, sha256, recipe)
        spent += flops
        unknown += [] if flops else [f"the training of {url}: no card of it beside the weights"]
    if recipe.replay is not None:
        try:
            parts = summary_of(recipe.replay, recipe)["flops"]["parts"]
            spent += sum(parts.values()) - parts["learning"]
        except (UserError, KeyError):
            unknown.append(f"what choosing has cost {recipe.replay}: no summary of it")
    return spent, unknown


def _scored(participants: Participants) -> int:
    """Samples that a column was made for: all of what the snapshots were made from, however few they keep."""
    found = 0
    for url in participants.urls:
        snapshot = snapshot_of(url, participants.recipe.options)
        found += 0 if snapshot is None else int(snapshot.document["samples"]["seen"])
    return found


def _scorer_flops(model: str, captions: Sequence[str]) -> float:
    """What a scorer of a dual encoder spends on a sample. Its captions are not at hand: those of the held-out samples
    stand for them."""
    whole = forward_flops(model, text=True)
    if not captions:
        return whole
    lengths, less = bucket_lengths(tokenizer_for(model)(captions)), trimmed(model)
    return whole - sum(less.get(length, 0.0) for length in lengths.tolist()) / len(captions)


@cache
def trimmed(model: str) -> dict[int, float]:
    """How many FLOPs less a caption costs that is trimmed to a length than one of the full context, by the length in
    tokens; nothing where the text tower doesn't trim. Counted by torch, once a model."""
    from torch.utils.flop_counter import FlopCounterMode

    context = int(model_config(model)["text_cfg"].get("context_length", 77))
    flops: dict[int, float] = {}
    with torch.device("meta"):
        module = build_model(model).eval()
        if not trims(module):
            return {}
        for length in {*range(4, context, 4), context}:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                encode_text(module, torch.zeros(1, length, dtype=torch.long))
            flops[length] = float(counter.get_total_flops())
    return {length: flops[context] - found for length, found in flops.items()}


def forward_flops(model: str, *, text: bool, size: int = 0) -> float:
    """One forward pass over one sample: the picture at `size` (0: the model's own) and, with `text`, its caption."""
    found = cost(model, size)
    return float(found.image_flops + (found.text_flops if text else 0))


def trained_flops(weights: str, sha256: str | None, recipe: LearnRecipe) -> float:
    """What the training of a reference has cost: from the card (or summary) of these very weights that lies beside
    them; 0 without."""
    folder = open_store(weights.rpartition("/")[0] or ".", recipe.options)
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


def training_flops(model: str, training: Training, *, text: bool) -> float:
    """Forward FLOPs a sample in training, of which a share may be at the reduced size."""
    share = training.reduced if training.scoring_size else 0.0
    small = forward_flops(model, text=text, size=training.scoring_size)
    return (1 - share) * forward_flops(model, text=text) + share * small


def _training(model: Learner) -> float:
    """Return the FLOPs of a forward pass over one sample in training."""
    return training_flops(model.model, model.training, text=model.reads_captions) + model.head_flops()


def _scoring(model: Learner) -> float:
    """Return the FLOPs of a forward pass over one candidate."""
    size = model.training.scoring_size
    return forward_flops(model.model, text=model.reads_captions, size=size) + model.head_flops()
