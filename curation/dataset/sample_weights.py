"""What samples weigh: how often training meets each, beside the others.

A manifest's weights are relative: a sample with weight w appears in an epoch w / mean times (the mean is that of all
kept samples of its snapshot), rounded down or up by chance, so that it is exact over the epochs. An epoch has about as
many samples as without weights, and a light sample is not in every one.
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
    """The weights of `samples` samples by uid; those that are not in `own` weigh 1. Memory: 160 bytes each in `own`."""

    own: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0

    def __bool__(self) -> bool:
        return bool(self.own)

    @cached_property
    def sha256(self) -> str:
        """Of all that are not 1."""
        return sha256("".join(f"{uid} {weight!r}\n" for uid, weight in sorted(self.own.items())).encode()).hexdigest()

    @cached_property
    def mean(self) -> float:
        """Of all samples."""
        total = sum(self.own.values()) + self.samples - len(self.own)
        return total / self.samples if self.samples else 1.0

    def of(self, uids: Sequence[str]) -> Tensor:
        """w / mean, float64 `[N]`: how often each appears in an epoch."""
        return torch.tensor([self.own.get(uid, 1.0) for uid in uids], dtype=torch.float64) / self.mean

    def times(self, uid: str, seed: int, epoch: int) -> int:
        """How often a sample appears in this epoch of a stream: w / mean, rounded by the hash of all three."""
        chance = int.from_bytes(sha256(f"{seed} {epoch} {uid}".encode()).digest()[:8], "big") / 2**64
        return floor(self.own.get(uid, 1.0) / self.mean + chance)


ALIKE = SampleWeights()


def drawn(weights: Tensor, generator: torch.Generator, count: int | None = None) -> Tensor:
    """An order of `count` (or N) rows of N samples, int64, each as often as its weight says: count w / sum(w) times.

    Systematic sampling (Madow 1949): N points at equal distances on a line along which each sample is as long as its
    weight, so that number is rounded down or up. A sample's k places are count / k apart in the order, which is random:
    no batch of fewer has it twice. weights: float64 `[N]`, finite and with a sum above 0.
    """
    ends, count = weights.cumsum(0), len(weights) if count is None else count
    if not 0 < float(ends[-1]) < float("inf"):
        raise ValueError(f"the weights' sum is {float(ends[-1])}")
    points = torch.arange(count, dtype=torch.float64) + torch.rand(1, dtype=torch.float64, generator=generator)
    rows = torch.searchsorted(ends, points * (ends[-1] / count), right=True).clamp(max=len(weights) - 1)
    before = torch.arange(count) - torch.searchsorted(rows, rows)  # copies of the same sample
    chance = torch.rand(len(weights), dtype=torch.float64, generator=generator)
    times = torch.bincount(rows, minlength=len(weights))[rows]
    return rows[((before + chance[rows]) / times).argsort(stable=True)]
