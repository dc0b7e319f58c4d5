"""Scorer `learnability`: the difference of two losses."""

from __future__ import annotations

import torch
from scorers_given import CPU, ROWS, Fields, batch, make


def test_learnability(given: Fields) -> None:
    fields = given["learnability"]
    scorer = make("learnability", fields)
    sample = batch(ROWS, scorer)
    reference = {key: fields["reference"][key] for key in ("model", "weights", "sha256")}
    own = {key: fields[key] for key in reference}
    losses = [-make("clip_score", encoder).load(CPU)(sample) for encoder in (own, reference)]  # type: ignore[operator]
    assert torch.equal(scorer.load(CPU)(sample), losses[0] - losses[1])  # type: ignore[arg-type]
