"""Highest-scoring share of the samples: the rule behind most published image-text corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from curation.filters.rank_cut import below_rank

LEAST = 1e-12  # keeps no sample of any real corpus; exact products of a smaller fraction exceed 128 bits


@dataclass(frozen=True, kw_only=True)
class TopFraction:
    """Keep exactly round(fraction * n) of the n samples that reach this filter: those with the highest score.

    Ties at the cut are broken by uid (the smaller is kept), halves round up, and the product is exact: 0.29 of 100 is
    29.
    Cost: 0.2 us of CPU a sample; one sort of the score column, out of core.
    Source: DataComp (2304.14108), section 3.3.
    Example: top_fraction: {score: clip_score, fraction: 0.3}
    """

    score: str
    fraction: float

    def __post_init__(self) -> None:
        if not LEAST <= self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}, but must be a share from {LEAST} to 1")

    def columns(self) -> Sequence[str]:
        return (self.score,)

    def limits(self) -> Sequence[float]:
        return ()

    def drops(self) -> str:
        share = Fraction(str(self.fraction))
        p, q = share.numerator, share.denominator
        most = f"SELECT (2 * {p}::HUGEINT * count(*) + {q}) // (2 * {q}) FROM alive"
        return below_rank(self.score, most, self.score)
