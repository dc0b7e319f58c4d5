"""FLOPs of a forward pass, once a model and shape: what `curation.learning.flop_prices` charges the roles of a run."""

from __future__ import annotations

from functools import cache

import torch

from curation.learners.training import Training
from curation.models import cost, model_config
from curation.models.architecture import build_for_counting
from curation.models.towers import encode_text, trims


def forward_flops(model: str, *, text: bool, size: int = 0) -> float:
    """Return the FLOPs of a forward pass over one picture and, with `text`, its caption at the full context.

    size: side of the picture in pixels; 0: the model's own.
    """
    found = cost(model, size)
    return float(found.image_flops + (found.text_flops if text else 0))


def training_flops(model: str, training: Training, *, text: bool) -> float:
    """Return the forward FLOPs of a sample in training, of which a share may be at the reduced size."""
    share = training.reduced if training.scoring_size else 0.0
    small = forward_flops(model, text=text, size=training.scoring_size)
    return (1 - share) * forward_flops(model, text=text) + share * small


@cache
def trimmed(model: str) -> dict[int, float]:
    """Return the FLOPs that a caption saves by being trimmed, by its length in tokens; {} for a tower that can't trim.

    Counted by torch, without computing, once a model.
    """
    from torch.utils.flop_counter import FlopCounterMode

    context = int(model_config(model)["text_cfg"].get("context_length", 77))
    flops: dict[int, float] = {}
    module = build_for_counting(model)
    if not trims(module):
        return {}
    with torch.device("meta"):
        for length in {*range(4, context, 4), context}:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                encode_text(module, torch.zeros(1, length, dtype=torch.long))
            flops[length] = float(counter.get_total_flops())
    return {length: flops[context] - found for length, found in flops.items()}
