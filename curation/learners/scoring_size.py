"""Pictures at another size than a vision transformer was built for: what cheap scoring looks at (Flexi-JEST)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def at_size(module: nn.Module, tower: Callable[[Tensor], Tensor], pixels: Tensor, size: int) -> Tensor:
    """Return a vision transformer's features of pictures scaled to `size`: fewer patches, interpolated positions.

    module: a model whose `visual` is open_clip's tower with learned positions.
    tower: float `[N, 3, size, size]` to features `[N, D]`.
    pixels: normalised, float `[N, 3, S, S]`.
    size: side in pixels; at half the side a quarter of the patches is left, and with them a quarter of the FLOPs.
    Raises `ValueError` for another tower, or a size that its patches don't divide.
    Source: Flexi-JEST, 2406.17711, section 2.3; interpolation: FlexiViT, 2212.08013.
    """
    visual: Any = module.visual
    positions = getattr(visual, "positional_embedding", None)
    if not isinstance(positions, nn.Parameter) or positions.ndim != 2:
        raise ValueError("scoring at another size needs a vision transformer with learned positions")
    patch = visual.conv1.kernel_size[0]
    if size % patch:
        raise ValueError(f"a scoring size of {size} is no multiple of the patches' {patch}")
    side, grid = math.isqrt(len(positions) - 1), size // patch
    known = positions[1:].T.reshape(1, -1, side, side)
    fewer = interpolate(known, (grid, grid), mode="bilinear", antialias=True).flatten(2)[0].T
    small = interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    # Replaced in place: a parameter that is removed and added again moves to the end, and the norm of the gradients
    # would be summed in another order.
    visual._parameters["positional_embedding"] = torch.cat([positions[:1], fewer])
    try:
        return tower(small)
    finally:
        visual._parameters["positional_embedding"] = positions
