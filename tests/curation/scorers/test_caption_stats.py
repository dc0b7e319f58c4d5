"""Scorer `caption_stats`: words, characters and repetition."""

from __future__ import annotations

import pyarrow as pa
import pytest
from scorers_given import CPU, batch_of, make


def test_caption_stats() -> None:
    captions = ["", "sale sale SALE", "a red apple", "日本の 山", " two\twords\n"]
    found = make("caption_stats", {}).load(CPU)(batch_of(captions))
    assert isinstance(found, pa.Array)
    wanted = [(0, 0, 0), (14, 3, 2 / 3), (11, 3, 0), (5, 4, 0), (11, 2, 0)]
    for row, (characters, words, repetition) in zip(found.to_pylist(), wanted, strict=True):
        assert (row["characters"], row["words"]) == (characters, words)
        assert row["repetition"] == pytest.approx(repetition)
