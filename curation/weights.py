"""What samples weigh: how often training meets each, beside the others.

A manifest's weights are relative. An epoch has as many samples as without them; in it a sample with weight w appears
w / mean times, rounded down or up by chance so that the mean over epochs is exact: more than once, or not in every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from math import floor

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """The weights of `samples` samples by uid; those that are not in `own` weigh 1. Memory: 150 bytes each in `own`."""

    own: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0

    def __bool__(self) -> bool:
        return bool(self.own)

    @staticmethod
    def joined(parts: Iterable[Weights]) -> Weights:
        """Of several sets of samples."""
        own: dict[str, float] = {}
        samples = 0
        for part in parts:
            own.update(part.own)
            samples += part.samples
        return Weights(own, samples)

    @property
    def sha256(self) -> str:
        """Of all that are not 1."""
        return sha256("".join(f"{uid} {weight!r}\n" for uid, weight in sorted(self.own.items())).encode()).hexdigest()

    @cached_property
    def mean(self) -> float:
        """Of all samples."""
        return (sum(self.own.values()) + self.samples - len(self.own)) / max(1, self.samples)

    def of(self, uids: Sequence[str]) -> Tensor | None:
        """float64 `[N]`; None where all weigh the same."""
        found = torch.tensor([self.own.get(uid, 1.0) for uid in uids], dtype=torch.float64)
        return None if bool((found == found[:1]).all()) else found

    def times(self, uid: str, seed: int, epoch: int) -> int:
        """How often a sample appears in an epoch of a stream: w / mean, rounded by the hash of all three."""
        chance = int.from_bytes(sha256(f"{seed} {epoch} {uid}".encode()).digest()[:8], "big") / 2**64
        return floor(self.own.get(uid, 1.0) / (self.mean or 1.0) + chance)


ALIKE = Weights()


def spread(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of as many samples as there are weights, int64 `[N]`, ascending: each as often as its weight says.

    Systematic sampling (Madow 1949): N points at equal distances on a line along which each sample is as long as its
    weight, so each appears N w / sum(w) times, rounded down or up. weights: float64 `[N]`, with a sum above 0.
    """
    ends = weights.cumsum(0)
    points = torch.arange(len(weights), dtype=torch.float64) + torch.rand(1, dtype=torch.float64, generator=generator)
    return torch.searchsorted(ends, points * (ends[-1] / len(weights)), right=True).clamp(max=len(weights) - 1)
