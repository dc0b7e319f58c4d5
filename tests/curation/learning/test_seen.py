"""What is not known of one part of a model's data does not hide what is certain of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import write_weights

from curation.core.errors import LedgerError
from curation.dataset.open_shards import open_shards
from curation.learning import seen
from curation.models.weights import Weights
from curation.storage.store import StoreOptions


def test_unknown_data_does_not_hide_a_certain_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (seen.TrainingData(url, None, seen.HoldoutSplit(0.1)) for url in ("first", "second"))

    def both(trained: seen.TrainingData, *_: object) -> str:
        if trained is first:
            raise seen.UnknownOverlap("it is gone")
        return "the same shards"

    monkeypatch.setattr(seen, "_both", both)
    judged, weights = seen.HeldOutPart([], seen.HoldoutSplit(0.3)), Weights("w", "0" * 64)
    monkeypatch.setattr(seen, "trained_on", lambda *_: [first, second])
    assert seen.seen_by(weights, judged, StoreOptions()) == (second, "the same shards")
    monkeypatch.setattr(seen, "trained_on", lambda *_: [first])
    assert "is not known: it is gone" in seen.seen_by(weights, judged, StoreOptions())[1]


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
    judged = seen.HeldOutPart([source(tmp_path / "held", "0.tar")], seen.HoldoutSplit(0.3))
    found, line = seen.seen_by(weights, judged, StoreOptions())
    assert found is None and "is not known: " in line


def test_data_without_a_hash_is_compared_by_its_url(tmp_path: Path) -> None:
    weights = Weights(f"{tmp_path}/w.safetensors", write_weights(tmp_path / "w.safetensors"))
    judged = seen.HeldOutPart([source(tmp_path / "held", "0.tar")], seen.HoldoutSplit(0.3))
    card = {"recipe": RECIPE, "trained_on": {"data": f"{tmp_path}/held"}, "sha256": weights.sha256}
    (tmp_path / "card.json").write_text(json.dumps(card))
    found, line = seen.seen_by(weights, judged, StoreOptions())
    assert found is not None and "held out 10% of the names, and the run 30%" in line


def test_every_source_is_compared_before_one_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, same = source(tmp_path / "other", "1.tar"), source(tmp_path / "held", "0.tar")
    whole = seen.overlap

    def overlap(one: seen.RunData, other: seen.RunData) -> str:
        if other is broken:
            raise LedgerError("its plan is damaged")
        return whole(one, other)

    monkeypatch.setattr(seen, "overlap", overlap)
    trained = seen.TrainingData(f"{tmp_path}/held", None, seen.HoldoutSplit(0.1))
    judged = seen.HeldOutPart([broken, same], seen.HoldoutSplit(0.3))
    assert "is in" in seen._shared(trained, judged, StoreOptions())
    with pytest.raises(seen.UnknownOverlap, match="its plan is damaged"):
        seen._shared(trained, seen.HeldOutPart([broken], seen.HoldoutSplit(0.3)), StoreOptions())


def source(folder: Path, name: str) -> seen.RunData:
    folder.mkdir()
    (folder / name).write_bytes(name.encode())
    return seen.RunData(str(folder), open_shards(str(folder)), None)
