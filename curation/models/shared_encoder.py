"""One dual encoder a process: scorers that name the same weights share it and, through `Batch.once`, its passes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch

from curation.models.dual import DualEncoder, load_dual_encoder
from curation.models.weights import Weights
from curation.storage.store import StoreOptions

_loaded: list[DualEncoder] = []


@lru_cache(maxsize=8)
def shared_dual_encoder(
    model: str,
    weights: Weights,
    device: torch.device,
    precision: Literal["fp32", "bf16"],
    options: StoreOptions | None,
) -> DualEncoder:
    """Load a dual encoder, once a process for equal arguments (see `load_dual_encoder`)."""
    encoder = load_dual_encoder(model, weights, device, precision, options)
    _loaded.append(encoder)
    return encoder


def compile_encoders(rows: int) -> None:
    """Compile the encoders that this process has loaded, for batches of `rows` (see `DualEncoder.compile`)."""
    for encoder in _loaded:
        encoder.compile(rows)
