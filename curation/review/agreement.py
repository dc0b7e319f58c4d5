"""Agreement between reviewers: Krippendorff's alpha for nominal data.

    alpha = 1 - D_o / D_e = ((n - 1) A - S) / (n (n - 1) - S)
    A = sum over items of sum_c n_ic (n_ic - 1) / (m_i - 1),   S = sum_c n_c (n_c - 1)

where item i has m_i >= 2 labels, n_ic of them of class c, and n_c and n are the sums over these items. An item with one
label can't be paired and is left out; "can't tell" counts as missing. 1 is perfect agreement, 0 that of chance.
Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C. Cost: 1 us a label; one number for
each class in memory, however many items there are. The package `krippendorff` holds items x classes x classes numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """alpha, computed over `labels` labels of `reviewers` reviewers to `items` items that have at least two labels.

    alpha is None where it is not defined, and `undefined` says why.
    """

    alpha: float | None
    undefined: str = ""
    items: int
    labels: int
    reviewers: int


@dataclass
class PairedLabels:
    """The sums that alpha is computed from, item by item."""

    items: int = 0
    agreeing: float = 0.0
    classes: Counter[str] = field(default_factory=Counter)
    reviewers: set[str] = field(default_factory=set)

    def add(self, labels: Mapping[str, str]) -> None:
        """Add an item. labels: reviewer -> label."""
        if len(labels) < 2:
            return
        self.items += 1
        counts = Counter(labels.values())
        self.agreeing += _pairs(counts.values()) / (len(labels) - 1)
        self.classes.update(counts)
        self.reviewers.update(labels)

    def agreement(self) -> Agreement:
        """Return alpha over the items so far."""
        n, expected = self.classes.total(), _pairs(self.classes.values())
        alpha, undefined = None, ""
        if not n:
            undefined = "no item has labels of two reviewers"
        elif expected == n * (n - 1):
            undefined = "all these labels name one class"
        else:
            alpha = ((n - 1) * self.agreeing - expected) / (n * (n - 1) - expected)
        return Agreement(
            alpha=alpha, undefined=undefined, items=self.items, labels=n, reviewers=len(self.reviewers)
        )  # fmt: skip


def _pairs(counts: Collection[int]) -> int:
    return sum(count * (count - 1) for count in counts)
