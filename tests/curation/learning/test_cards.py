"""Cards beside weights that another program wrote, or an enemy: they are no cards of ours, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.learning.flop_prices import trained_flops
from curation.learning.leakage_check import UnknownOverlap, trained_on
from curation.models.weights import Weights
from curation.storage.store import StoreOptions

SHA = "a" * 64
HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "card",
    [
        "[" * 100_000,
        f'{{"a": {"9" * 5000}}}',
        f'{{"sha256": "{SHA}", "recipe": {{"holdout": {HUGE}}}}}',
        f'{{"sha256": "{SHA}", "flops": {{"totals": {{"full": {HUGE}}}}}}}',
    ],
    ids=["deep", "digits", "holdout", "flops"],
)
def test_foreign_cards_are_no_cards(tmp_path: Path, card: str) -> None:
    (tmp_path / "card.json").write_text(card)
    url = f"{tmp_path}/w.safetensors"
    assert trained_flops(url, SHA, StoreOptions()) == 0
    with pytest.raises(UnknownOverlap):
        trained_on(Weights(url, SHA), StoreOptions())
