"""The contract of every selector in the table with online selection."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import normalize

from curation.models.model_outputs import Losses, Outputs, PairEmbeddings
from curation.selectors import SELECTORS, Selector

NAMES = sorted(SELECTORS)
NEEDED: dict[str, dict[str, Any]] = {"replay": {"run": "demo/learned"}}  # fields without a default
SOFTMAX = [name for name in NAMES if "loss" in getattr(SELECTORS[name], "__dataclass_fields__", {})]
B, SIZE = 12, 5


def selector(name: str, **fields: Any) -> Selector:
    return SELECTORS[name](**{**NEEDED.get(name, {}), **fields})


def pairs(seed: int) -> PairEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(B, 6, generator=generator), dim=-1) for _ in range(2))
    return PairEmbeddings(image, text, 5.0, -2.0)


PAIRS: dict[Any, Outputs] = {"online": pairs(1), "reference": pairs(2)}
LOSSES: dict[Any, Outputs] = {role: Losses(outputs.losses()) for role, outputs in PAIRS.items()}


def choose(one: Selector, outputs: dict[Any, Outputs]) -> list[int]:
    given = {role: outputs[role] for role in one.roles()}
    rows = one.select(given, SIZE, 0.5, torch.Generator().manual_seed(3))
    assert one.scores(given, 0.5).shape == (B,)
    return rows.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_it_has_an_example_and_says_when_to_use_it(name: str) -> None:
    text = inspect.cleandoc(SELECTORS[name].__doc__ or "")
    assert "When to use: " in text and "Cost: " in text
    ((named, fields),) = yaml.safe_load(text.partition("Example: ")[2]).items()
    assert named == name and all(field in SELECTORS[name].__dataclass_fields__ for field in fields)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_the_roles_that_it_names_are_all_that_it_needs(name: str) -> None:
    one = selector(name)
    assert one.roles() <= {"online", "reference"}
    if one.roles():
        assert len(choose(one, PAIRS)) == SIZE
        for role in one.roles():
            with pytest.raises(KeyError):
                choose(one, {other: outputs for other, outputs in PAIRS.items() if other != role})
    else:
        assert not one.needs_pairs()


@pytest.mark.parametrize("name", [name for name in NAMES if selector(name).roles()])
def test_without_pairs_it_chooses_the_same_unless_it_needs_them(name: str) -> None:
    one = selector(name)
    if one.needs_pairs():
        with pytest.raises(ValueError, match="vectors"):
            choose(one, LOSSES)
    else:
        assert choose(one, LOSSES) == choose(one, PAIRS)


@pytest.mark.parametrize("name", SOFTMAX)
def test_the_softmax_loss_needs_pairs(name: str) -> None:
    assert selector(name, loss="softmax").needs_pairs()


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_run_is_one_whose_url_it_was_given(name: str) -> None:
    assert selector(name).replayed_run() == NEEDED.get(name, {}).get("run")
    assert not (selector(name).replayed_run() and selector(name).roles()), "a replay runs no model"


def test_nobody_names_a_selector_outside_of_its_room() -> None:
    """Differences between selectors are methods of the selectors."""
    root = Path(__file__).resolve().parents[2]
    named = re.compile(rf"(?m)^from .* import .*\b({'|'.join(sorted({cls.__name__ for cls in SELECTORS.values()}))})\b")
    for room in ("recipes", "selection", "learning", "evaluation"):
        for path in sorted((root / "curation" / room).glob("*.py")):
            assert not named.search(path.read_text()), path
