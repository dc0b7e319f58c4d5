"""Uniform selection and its control, shuffled scores."""

from __future__ import annotations

from collections import Counter

import torch
from selector_outputs import seeded

from curation.models.model_outputs import Losses
from curation.selectors.blend import Blend
from curation.selectors.uniform import Shuffled


def test_shuffled_scores_choose_regardless_of_the_candidate() -> None:
    generator = seeded(6)
    control, best = Shuffled(of=Blend(gain=50.0)), {"online": Losses(torch.tensor([9.0, 0, 0, 0])),
                                                    "reference": Losses(torch.zeros(4))}  # fmt: skip
    seen = Counter(control.select(best, 1, 0, generator).item() for _ in range(4000))
    assert all(abs(seen[row] - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5 for row in range(4))
