"""Inputs of models: training batches, samples in memory, and the candidates of a super-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.shards.images import Pixels

BUDGET = 2 << 30  # bytes of pixels that a command loads into memory at most


Tokenize = Callable[[list[str]], torch.Tensor]


class TrainingBatch(NamedTuple):
    """Input of one training step, one sample a row.

    `pixels`: uint8 `[N, S, S, 3]`. `targets`: token ids of the captions, int64 `[N, L]`, or classes, int64 `[N]`.
    """

    pixels: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class Examples:
    """N samples in memory, one a row."""

    pixels: Pixels  # uint8 [N, S, S, 3]
    captions: list[str]
    uids: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.uids)

    @staticmethod
    def empty(size: int) -> Examples:
        """Empty set of samples whose pixels have the shape `[0, size, size, 3]`."""
        return Examples(np.zeros((0, size, size, 3), np.uint8), [], [], [])

    def take(self, rows: list[int]) -> Examples:
        """Samples at `rows`, in that order."""
        picked = ([column[row] for row in rows] for column in (self.captions, self.uids, self.labels))
        return Examples(self.pixels[rows], *picked)

    @staticmethod
    def concatenated(parts: Sequence[Examples]) -> Examples:
        """Concatenation of at least one set of samples, all of one image size."""
        first, *rest = parts
        if not rest:
            return first
        columns = ([item for part in parts for item in getattr(part, name)] for name in ("captions", "uids", "labels"))
        return Examples(np.concatenate([part.pixels for part in parts]), *columns)


class SuperBatch(NamedTuple):
    """B candidates: their rows in the pool (int64 `[B]`), their model input, and losses known in advance (`[B]`)."""

    rows: Tensor
    batch: TrainingBatch
    losses: Tensor | None = None
