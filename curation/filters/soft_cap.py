"""Large groups made smaller, but still larger than small ones; with weights that undo it in every average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.core.ranges import check_count, check_seed
from curation.filters.draw import draw


@dataclass(frozen=True, kw_only=True)
class SoftCap:
    """Of a group of n > `cap` samples, keep about cap (n / cap)^alpha; of smaller groups, all.

    Each sample of a group (one value of `column`: a word or an integer) stays with the probability
    p = min(1, (cap / n)^(1 - alpha)), by a hash of seed and uid: the same ones everywhere. `alpha: 0.5` is word2vec's
    rule for frequent words (Mikolov et al. 2013, 1310.4546, equation 5, with its threshold t = cap / all samples);
    `alpha: 0` cuts every group to about `cap` as MetaCLIP's t does (2309.16671), and exponents between are those by
    which XLM smooths languages (1901.07291, section 3.1). With `weights`, a kept sample weighs 1 / p, so that weighted
    sums over what is kept estimate those over all that reached the filter (Horvitz and Thompson 1952): the pool's
    statistics at a fraction of the samples. `weights: false` where training shall see the flattened distribution.
    FLYT's Soft Cap Sampling (2503.08805), which draws by a score and repeats samples, is `soft_cap_sampling`.
    Cost: one aggregation and one pass, out of core. 0.8 us of CPU a sample.
    Example: soft_cap: {column: cluster.cluster, cap: 1000}
    """

    column: str
    cap: int
    alpha: float = 0.5
    weights: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("cap", self.cap, "it is the size above which a group is cut", least=1)
        check_seed(self.seed)
        if not 0 <= self.alpha < 1:
            raise ValueError("alpha is from 0 (all large groups alike) to below 1 (as they are)")

    def columns(self) -> Sequence[str]:
        return (self.column,)

    def drops(self) -> str:
        luck = draw(self.seed, f"soft_cap {self.column}")
        return f"SELECT id, '{self.column}' AS detail FROM {self._cut()} WHERE {luck} >= 1 / weight"

    def weighs(self) -> str | None:
        return f"SELECT id, weight FROM {self._cut()}" if self.weights else None

    def _cut(self) -> str:
        """The samples of groups above the cap, with 1 / p of each."""
        return f"""(
            SELECT id, uid, large.weight FROM alive JOIN (
                SELECT "{self.column}" AS g, pow(count(*) / {self.cap}, {1 - self.alpha!r}) AS weight
                FROM alive GROUP BY 1 HAVING count(*) > {self.cap}
            ) AS large ON alive."{self.column}" IS NOT DISTINCT FROM large.g
        )"""
