"""Drawing a sub-batch from scores: without replacement from a softmax, or the top."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw `size` different rows, one after the other with probability softmax(logits) over the rows that are left.

    logits: float64 `[B]`. Returns int64 `[size]`, ascending. Raises `ValueError` for a `size` above B.
    Drawing without replacement from a softmax is taking the top of logits + Gumbel noise, in one pass.
    Source: 2312.05328, section 3; Kool et al. 2019 (1903.06059), section 2.
    """
    return top(logits + gumbel(len(logits), generator), size)


def top(scores: Tensor, size: int) -> Tensor:
    """Return the `size` rows with the highest scores, int64 `[size]`, ascending; the first rows of equal scores.

    scores: float `[B]`. Raises `ValueError` for a `size` above B. Source: RHO-LOSS, 2206.07137, algorithm 1.
    """
    check_size(size, len(scores))
    order = torch.sort(scores.double().cpu(), descending=True, stable=True).indices
    return order[:size].sort().values


def check_size(size: int, candidates: int) -> None:
    """Raise `ValueError` for a sub-batch that is larger than its super-batch."""
    if not 0 <= size <= candidates:
        raise ValueError(f"{size} of {candidates} candidates can't be chosen")


def gumbel(count: int, generator: torch.Generator) -> Tensor:
    """Return Gumbel noise, float64 `[count]`, on the CPU: on every device of the scores the same."""
    return -torch.log(-torch.log(torch.rand(count, dtype=torch.float64, generator=generator).clamp_min(1e-300)))
