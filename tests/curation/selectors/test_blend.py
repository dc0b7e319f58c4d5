"""Selectors that score each candidate alone: the formulas of the paper."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selector_outputs import outputs, pairs, seeded

from curation.models.model_outputs import Losses
from curation.selectors.blend import Blend, EasyReference, HardLearner, Learnability
from curation.selectors.draw import top
from curation.selectors.joint import Joint
from curation.selectors.schedule import Ramp

pytestmark = pytest.mark.slow


def test_scores_are_those_of_the_paper() -> None:
    seen = outputs()
    online = [-float(i @ t) for i, t in zip(seen["online"].image, seen["online"].text, strict=True)]
    reference = [-float(i @ t) for i, t in zip(seen["reference"].image, seen["reference"].text, strict=True)]

    def close(selector: Blend, wanted: list[float]) -> None:
        assert selector.scores(seen, 0.5).tolist() == pytest.approx(wanted, abs=1e-6)

    close(Learnability(), [o - r for o, r in zip(online, reference, strict=True)])
    close(EasyReference(), [-r for r in reference])
    close(HardLearner(), online)
    half_way = Blend(online=Ramp(start=0, end=1), reference=2)
    close(half_way, [0.5 * o - 2 * r for o, r in zip(online, reference, strict=True)])


def test_contrastive_scores_are_the_losses_among_all_candidates() -> None:
    ours, theirs = pairs(6, 0), pairs(6, 1)
    found = EasyReference(loss="softmax").scores({"reference": ours}, 0)
    logits = (ours.temperature * ours.image @ ours.text.T + ours.bias).tolist()
    for row in range(6):
        across = math.log(sum(math.exp(value) for value in logits[row]))
        down = math.log(sum(math.exp(other[row]) for other in logits))
        assert float(found[row]) == pytest.approx(logits[row][row] - (across + down) / 2, abs=1e-5)
    both = Learnability(loss="softmax").scores({"online": theirs, "reference": ours}, 0)
    torch.testing.assert_close(both, theirs.softmax_losses() + found)
    column = Losses(torch.arange(6.0))  # has no other losses than its own
    assert EasyReference(loss="softmax").scores({"reference": column}, 0).tolist() == (-column.values).tolist()


def test_only_the_models_that_count_are_asked() -> None:
    assert EasyReference().roles() == {"reference"}
    assert HardLearner().roles() == {"online"}
    assert Learnability().roles() == Joint().roles() == {"online", "reference"}
    assert Blend(online=Ramp(start=0, end=1)).roles() == {"online", "reference"}
    assert EasyReference().scores({"reference": Losses(torch.tensor([1.0, 3.0]))}, 0).tolist() == [-1, -3]


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.data())
@settings(max_examples=60)
def test_a_high_gain_is_the_top(scores: list[float], data: st.DataObject) -> None:
    distinct = torch.tensor([round(value, 1) + index * 1e-3 for index, value in enumerate(scores)])
    size = data.draw(st.integers(0, len(scores)))
    drawn = Blend(gain=1e9, reference=0).select({"online": Losses(distinct)}, size, 0, seeded(1))
    assert torch.equal(drawn, top(distinct, size))


def test_a_gain_of_nothing_is_uniform() -> None:
    generator = seeded(5)
    easy = EasyReference(gain=0.0)
    seen = Counter(
        row for _ in range(4000) for row in easy.select({"reference": pairs(8, 2)}, 2, 0, generator).tolist()
    )
    assert all(abs(count - 1000) < 4 * (8000 * 0.125 * 0.875) ** 0.5 for count in seen.values())
