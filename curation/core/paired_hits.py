"""Two hit rates on the same trials, compared by the trials on which exactly one of the two hits.

When to use: two classifiers were judged on the same samples. Samples on which both are right, or both are wrong, say
nothing about which is better; intervals of the two rates, which ignore that, are too wide. McNemar's exact test asks
whether the other samples split evenly: of d such samples, b are hits of the first alone, and b follows a binomial
distribution with d trials and probability 1/2 if the two are equally good. The interval of the difference (2b - d) / N
comes from Clopper and Pearson's interval of b / d; it excludes 0 exactly where the test rejects. It holds for the d at
hand, and covers the choice of the samples, not that of the training.
Source: McNemar (1947); Clopper and Pearson (1934); Bonferroni's inequality for several comparisons (`core.intervals`).
"""

from __future__ import annotations

from typing import NamedTuple

from curation.core.intervals import LEVEL

TEST = "mcnemar_exact"


class HitDifference(NamedTuple):
    """The hit rate of the first minus that of the second, with an interval. `p`: of one comparison, not corrected."""

    mean: float
    low: float
    high: float
    p: float
    only_first: int
    only_second: int

    @property
    def word(self) -> str:
        """The verdict: `better`, `worse` or `no difference shown`."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if self.low > 0 else "worse"


def hit_difference(only_first: int, only_second: int, total: int, comparisons: int = 1) -> HitDifference:
    """Compare two on `total` trials, from the numbers of trials on which only one of them hits.

    comparisons: how many intervals, this one among them, are reported together; the interval widens accordingly.
    """
    differing = only_first + only_second
    if not differing:
        return HitDifference(0.0, 0.0, 0.0, 1.0, 0, 0)
    from scipy.stats import binomtest

    found = binomtest(only_first, differing)
    share = found.proportion_ci(1 - (1 - LEVEL) / comparisons, method="exact")
    low, high = (float(2 * bound - 1) * differing / total for bound in (share.low, share.high))
    mean = (only_first - only_second) / total
    return HitDifference(mean, low, high, float(found.pvalue), only_first, only_second)
