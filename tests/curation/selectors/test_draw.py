"""Drawing without replacement: the probabilities of one draw after the other."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from selector_outputs import seeded

from curation.models.model_outputs import Losses
from curation.selectors.blend import Learnability
from curation.selectors.draw import draw, top


def test_top_is_the_top_and_ties_go_to_the_first() -> None:
    assert top(torch.tensor([0.0, 2, 2, 1, 2]), 2).tolist() == [1, 2]
    rho = Learnability(pick="top").select({"online": Losses(torch.tensor([1.0, 5, 3])),
                                           "reference": Losses(torch.tensor([0.0, 5, 1]))}, 2, 0, seeded())  # fmt: skip
    assert rho.tolist() == [0, 2]


def test_a_drawn_set_has_the_probability_of_drawing_one_after_the_other() -> None:
    """Chi-squared over all sets of 2 of 4, against the sum over both orders of the product of softmaxes."""
    logits, draws = torch.tensor([0.0, 1.0, -1.0, 0.5]), 20_000
    weights = logits.exp().tolist()
    total = sum(weights)
    expected: Counter[tuple[int, ...]] = Counter()
    for first, second in itertools.permutations(range(4), 2):
        chance = weights[first] / total * weights[second] / (total - weights[first])
        expected[tuple(sorted((first, second)))] += chance  # type: ignore[assignment]
    generator = seeded(3)
    seen = Counter(tuple(draw(logits, 2, generator).tolist()) for _ in range(draws))
    chi = sum((seen[key] - draws * chance) ** 2 / (draws * chance) for key, chance in expected.items())
    assert chi < 20.5, (chi, seen)  # 5 degrees of freedom: exceeded by chance once in 1,000 seeds
