"""Soft limit on group sizes: large groups shrink but stay larger than small ones; weights can undo it in averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.core.ranges import check_count, check_seed
from curation.filters.hash_uniform import hash_uniform


@dataclass(frozen=True, kw_only=True)
class SoftCap:
    """Keep about cap (n / cap)^alpha samples of a group of n > `cap`, and all samples of a smaller group.

    A group is the samples with one value of `column`, a word or an integer. Each sample of it is kept with the
    probability p = min(1, (cap / n)^(1 - alpha)), by a hash of seed and uid that is the same on every machine.
    `alpha: 0.5` is word2vec's rule for frequent words (Mikolov et al. 2013, 1310.4546, equation 5, with the threshold t
    = cap / all samples). `alpha: 0` reduces every group to about `cap`, as MetaCLIP's t does (2309.16671). XLM smooths
    languages with exponents in between (1901.07291, section 3.1).
    With `weights`, a kept sample has the weight 1 / p, so that weighted sums over the kept samples estimate sums over
    all samples that reached the filter (Horvitz and Thompson 1952). Set `weights: false` to train on the flattened
    distribution. `soft_cap_sampling` is FLYT's Soft Cap Sampling (2503.08805), which draws by score and repeats
    samples.
    Cost: 0.8 us of CPU a sample; one aggregation and one pass, out of core.
    Example: soft_cap: {column: cluster.cluster, cap: 1000}
    """

    column: str
    cap: int
    alpha: float = 0.5
    weights: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("cap", self.cap, "it is the size above which a group is reduced", least=1)
        check_seed(self.seed)
        if not 0 <= self.alpha < 1:
            limits = "at least 0 (all large groups equal) and below 1 (sizes unchanged)"
            raise ValueError(f"alpha is {self.alpha}, but must be {limits}")

    def columns(self) -> Sequence[str]:
        return (self.column,)

    def drops(self) -> str:
        luck = hash_uniform(self.seed, f"soft_cap {self.column}")
        return f"SELECT id, '{self.column}' AS detail FROM {self._cut()} WHERE {luck} >= 1 / weight"

    def weighs(self) -> str | None:
        return f"SELECT id, weight FROM {self._cut()}" if self.weights else None

    def _cut(self) -> str:
        """SQL of the samples in groups above the cap, each with its weight 1 / p."""
        return f"""(
            SELECT id, uid, large.weight FROM alive JOIN (
                SELECT "{self.column}" AS g, pow(count(*) / {self.cap}, {1 - self.alpha!r}) AS weight
                FROM alive GROUP BY 1 HAVING count(*) > {self.cap}
            ) AS large ON alive."{self.column}" IS NOT DISTINCT FROM large.g
        )"""
