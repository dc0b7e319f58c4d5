"""Unknown facts about one part of a model's data hide no certain leak of another part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import write_weights

from curation.core.errors import LedgerError
from curation.dataset.open_shards import open_shards
from curation.learning import leakage_check as leakage
from curation.learning.sources import RunData
from curation.models.weights import Weights
from curation.storage.store import StoreOptions


def test_unknown_data_does_not_hide_a_certain_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (leakage.TrainingData(url, None, leakage.HoldoutSplit(0.1)) for url in ("first", "second"))

    def both(trained: leakage.TrainingData, *_: object) -> str:
        if trained is first:
            raise leakage.UnknownOverlap("it is gone")
        return "the same shards"

    monkeypatch.setattr(leakage, "_leak", both)
    judged, weights = leakage.HeldOutPart([], leakage.HoldoutSplit(0.3)), Weights("w", "0" * 64)
    monkeypatch.setattr(leakage, "trained_on", lambda *_: [first, second])
    assert leakage.leak_of(weights, judged, StoreOptions()) == (second, "the same shards")
    monkeypatch.setattr(leakage, "trained_on", lambda *_: [first])
    assert "is not known: it is gone" in leakage.leak_of(weights, judged, StoreOptions())[1]


RECIPE = {"holdout": 0.1, "holdout_rule": 2}
SPLIT = {"share": 0.1, "grouping": "name", "rule": 2}
SUMMARY = {"recipe": {"learner": {"contrastive": {}}}, "split": SPLIT}


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("card.json", {"recipe": RECIPE}),
        ("card.json", {"recipe": RECIPE, "trained_on": {}}),
        ("card.json", {"recipe": {**RECIPE, "data_sha256": None}, "trained_on": {"data": 7, "pool": None}}),
        ("summary.json", {**SUMMARY, "data": []}),
        ("summary.json", {**SUMMARY, "data": "everything"}),
        ("summary.json", {**SUMMARY, "data": [7]}),
        ("summary.json", {**SUMMARY, "data": ["x"], "split": {"share": "much"}}),
    ],
)
def test_a_card_that_records_no_data_does_not_say_not_seen(tmp_path: Path, name: str, card: dict[str, Any]) -> None:
    weights = Weights(f"{tmp_path}/w.safetensors", write_weights(tmp_path / "w.safetensors"))
    (tmp_path / name).write_text(json.dumps({**card, "sha256": weights.sha256}))
    judged = leakage.HeldOutPart([source(tmp_path / "held", "0.tar")], leakage.HoldoutSplit(0.3))
    found, line = leakage.leak_of(weights, judged, StoreOptions())
    assert found is None and "is not known: " in line


def test_data_without_a_hash_is_compared_by_its_url(tmp_path: Path) -> None:
    weights = Weights(f"{tmp_path}/w.safetensors", write_weights(tmp_path / "w.safetensors"))
    judged = leakage.HeldOutPart([source(tmp_path / "held", "0.tar")], leakage.HoldoutSplit(0.3))
    card = {"recipe": RECIPE, "trained_on": {"data": f"{tmp_path}/held"}, "sha256": weights.sha256}
    (tmp_path / "card.json").write_text(json.dumps(card))
    found, line = leakage.leak_of(weights, judged, StoreOptions())
    assert found is not None and "held out 10% of the names, and the run 30%" in line


def test_every_source_is_compared_before_one_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, same = source(tmp_path / "other", "1.tar"), source(tmp_path / "held", "0.tar")
    whole = leakage.overlap

    def overlap(one: RunData, other: RunData) -> str:
        if other is broken:
            raise LedgerError("its plan is damaged")
        return whole(one, other)

    monkeypatch.setattr(leakage, "overlap", overlap)
    trained = leakage.TrainingData(f"{tmp_path}/held", None, leakage.HoldoutSplit(0.1))
    judged = leakage.HeldOutPart([broken, same], leakage.HoldoutSplit(0.3))
    assert "is in" in leakage._shared(trained, judged, StoreOptions())
    with pytest.raises(leakage.UnknownOverlap, match="its plan is damaged"):
        leakage._shared(trained, leakage.HeldOutPart([broken], leakage.HoldoutSplit(0.3)), StoreOptions())


def source(folder: Path, name: str) -> RunData:
    folder.mkdir()
    (folder / name).write_bytes(name.encode())
    return RunData(str(folder), open_shards(str(folder)), None)
