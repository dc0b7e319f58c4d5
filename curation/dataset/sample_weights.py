"""Sample weights: how often training sees each sample relative to the others.

A sample with weight w appears w / mean times in an epoch, where the mean is over all kept samples of its snapshot. The
number is rounded down or up at random, so that it is exact over the epochs. An epoch has about as many samples as
without weights, and a sample with a low weight is not in every epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from math import floor

import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleWeights:
    """Weights of `samples` samples by uid. Samples that are not in `own` have the weight 1.

    Memory: 160 bytes a sample in `own`.
    """

    own: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0

    def __bool__(self) -> bool:
        return bool(self.own)

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights that differ from 1, ordered by uid."""
        return sha256("".join(f"{uid} {weight!r}\n" for uid, weight in sorted(self.own.items())).encode()).hexdigest()

    @cached_property
    def mean(self) -> float:
        """Mean weight of all samples; 1 without samples."""
        total = sum(self.own.values()) + self.samples - len(self.own)
        return total / self.samples if self.samples else 1.0

    def of(self, uids: Sequence[str]) -> Tensor:
        """Expected number of appearances in an epoch, w / mean, of each of N uids: float64 `[N]`."""
        return torch.tensor([self.own.get(uid, 1.0) for uid in uids], dtype=torch.float64) / self.mean

    def times(self, uid: str, seed: int, epoch: int) -> int:
        """Number of appearances of a sample in an epoch: w / mean, rounded by a hash of uid, seed and epoch."""
        chance = int.from_bytes(sha256(f"{seed} {epoch} {uid}".encode()).digest()[:8], "big") / 2**64
        return floor(self.own.get(uid, 1.0) / self.mean + chance)


ALIKE = SampleWeights()


def weighted_order(weights: Tensor, generator: torch.Generator, count: int | None = None) -> Tensor:
    """Draw a random order of `count` (default N) rows of N samples: int64 `[count]`, each row count w / sum(w) times.

    `weights`: float64 `[N]`, finite, with a positive sum. Systematic sampling rounds each number down or up: `count`
    equidistant points on a line on which each sample has the length of its weight. The k copies of a sample are count /
    k apart in the order, so no smaller batch contains a sample twice. Raises `ValueError` for a sum that is not
    positive and finite. Source: Madow 1949.
    """
    ends, count = weights.cumsum(0), len(weights) if count is None else count
    if not 0 < float(ends[-1]) < float("inf"):
        raise ValueError(f"the sum of the weights is {float(ends[-1])}, but must be positive and finite")
    points = torch.arange(count, dtype=torch.float64) + torch.rand(1, dtype=torch.float64, generator=generator)
    rows = torch.searchsorted(ends, points * (ends[-1] / count), right=True).clamp(max=len(weights) - 1)
    before = torch.arange(count) - torch.searchsorted(rows, rows)  # earlier copies of the same sample
    chance = torch.rand(len(weights), dtype=torch.float64, generator=generator)
    times = torch.bincount(rows, minlength=len(weights))[rows]
    return rows[((before + chance[rows]) / times).argsort(stable=True)]
