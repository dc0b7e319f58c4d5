"""The contract of every selector of the table: rows that exist, once each, the same for the same seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from selector_outputs import outputs, seeded

from curation.selectors import SELECTORS, Selector
from curation.selectors.blend import Blend
from curation.selectors.joint import Joint
from curation.selectors.schedule import Ramp

CHOOSING = sorted(set(SELECTORS) - {"replay", "uniform"})


NEEDED: dict[str, dict[str, Any]] = {"replay": {"run": "demo/learned"}}  # fields without a default


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_a_selector_is_a_frozen_dataclass_with_a_docstring(name: str) -> None:
    selector = SELECTORS[name](**NEEDED.get(name, {}))
    assert isinstance(selector, Selector) and (type(selector).__doc__ or "").strip()
    assert hash(selector) == hash(SELECTORS[name](**NEEDED.get(name, {})))


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("size", [1, 5, 12])
def test_different_rows_ascending_and_the_same_again(name: str, size: int) -> None:
    selector, given = SELECTORS[name](), {role: outputs()[role] for role in SELECTORS[name]().roles()}
    rows = selector.select(given, size, 0.3, seeded(7))
    assert rows.dtype == torch.int64 and rows.shape == (size,)
    assert rows.tolist() == sorted(set(rows.tolist())) and set(rows.tolist()) <= set(range(12))
    assert torch.equal(rows, selector.select(given, size, 0.3, seeded(7)))
    scores = selector.scores(given, 0.3)
    assert scores.shape == (12,) and scores.dtype == torch.float32


@pytest.mark.parametrize("name", CHOOSING)
def test_more_than_there_are_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="13 of 12"):
        SELECTORS[name]().select(outputs(), 13, 0.0, seeded())


@pytest.mark.parametrize("kind", [Blend, Joint])
def test_nothing_to_choose_by_is_refused(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match="nothing to choose by"):
        kind(online=0, reference=0)


@pytest.mark.parametrize("name", [name for name in CHOOSING if name != "shuffled"])
@pytest.mark.parametrize("gain", [-3, -1e-9, float("nan"), float("inf"), 1e10, Ramp(start=1.0, end=-0.5)])
def test_a_gain_that_would_turn_the_selection_around_is_refused(name: str, gain: Any) -> None:
    with pytest.raises(ValueError, match=r"gain is .*, but must be from 0 to 1,000,000,000"):
        SELECTORS[name](gain=gain)
    for field in ("online", "reference"):
        with pytest.raises(ValueError, match=rf"{field} is .*a negative weight prefers"):
            SELECTORS[name](**{field: -1.0})
