"""Scorers with an encoder share its passes."""

from __future__ import annotations

import pytest
import torch
from scorers_given import CPU, Fields, batch, make


def test_one_forward_pass_is_shared(given: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.models.dual import DualEncoder

    calls = []
    original = DualEncoder.image
    monkeypatch.setattr(DualEncoder, "image", lambda self, pixels: calls.append(1) or original(self, pixels))
    names = ("clip_score", "embedding", "negclip_loss", "norm_sim", "head", "cluster")
    scorers = [make(name, given[name]) for name in names]
    loaded = [scorer.load(CPU) for scorer in scorers]
    shared = batch(list(range(4)), scorers[0])
    similarity, vectors, *_ = (score(shared) for score in loaded)
    assert len(calls) == 1
    assert similarity.shape == (4,) and vectors.shape[0] == 4
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(4), atol=1e-5)
