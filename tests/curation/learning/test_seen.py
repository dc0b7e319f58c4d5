"""What is not known of one part of a model's data does not hide what is certain of another."""

from __future__ import annotations

import pytest

from curation.learning import seen
from curation.models.weights import Weights
from curation.store import StoreOptions


def test_unknown_data_does_not_hide_a_certain_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (seen.Trained(url, None, seen.Split(0.1)) for url in ("first", "second"))

    def both(trained: seen.Trained, *_: object) -> str:
        if trained is first:
            raise seen.Unknown("it is gone")
        return "the same shards"

    monkeypatch.setattr(seen, "_both", both)
    judged, weights = seen.Judged([], seen.Split(0.3)), Weights("w", "0" * 64)
    monkeypatch.setattr(seen, "trained_on", lambda *_: [first, second])
    assert seen.seen_by(weights, judged, StoreOptions()) == (second, "the same shards")
    monkeypatch.setattr(seen, "trained_on", lambda *_: [first])
    assert "is not known: it is gone" in seen.seen_by(weights, judged, StoreOptions())[1]
