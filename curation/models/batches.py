"""What models see: batches of pictures and targets, samples in memory, and the candidates of a super-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.shards.images import Pixels

BUDGET = 2 << 30  # bytes of pixels


Tokenize = Callable[[list[str]], torch.Tensor]


class TrainingBatch(NamedTuple):
    """What a learner trains on, row by row a sample: pixels uint8 `[N, S, S, 3]`, and what belongs to each picture:
    token ids int64 `[N, L]` of its caption, or its class int64 `[N]`."""

    pixels: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class Examples:
    """N samples in memory, row by row."""

    pixels: Pixels  # uint8 [N, S, S, 3]
    captions: list[str]
    uids: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.uids)

    @staticmethod
    def none(size: int) -> Examples:
        """No samples, of a size."""
        return Examples(np.zeros((0, size, size, 3), np.uint8), [], [], [])

    def take(self, rows: list[int]) -> Examples:
        """The samples at `rows`."""
        picked = ([column[row] for row in rows] for column in (self.captions, self.uids, self.labels))
        return Examples(self.pixels[rows], *picked)

    @staticmethod
    def joined(parts: Sequence[Examples]) -> Examples:
        """All samples of several sets, in their order."""
        first, *rest = parts
        if not rest:
            return first
        columns = ([item for part in parts for item in getattr(part, name)] for name in ("captions", "uids", "labels"))
        return Examples(np.concatenate([part.pixels for part in parts]), *columns)


class SuperBatch(NamedTuple):
    """B candidates: their rows, int64 `[B]`, what models see of them, and losses that are known already, `[B]`."""

    rows: Tensor
    batch: TrainingBatch
    losses: Tensor | None = None
