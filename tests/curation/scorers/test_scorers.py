"""The contract of every scorer in the table: deterministic, independent of batch and order; fingerprints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_weights

from curation.images import DecodeLimits
from curation.scorers import SCORERS, Batch, Scorer, fingerprint
from curation.units import index_fingerprint, view_column

INDEX = index_fingerprint(DecodeLimits())
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    return {"model": "proxy-mu", "weights": str(path), "sha256": write_weights(path)}


def batch(scorer: Scorer, rows: list[int]) -> Batch:
    view = scorer.view()
    views = {}
    if view is not None:
        pictures = [np.random.default_rng(i).integers(0, 255, (view.size, view.size, 3), dtype=np.uint8) for i in rows]
        views[view_column(view)] = np.stack(pictures) if pictures else np.zeros((0, view.size, view.size, 3), np.uint8)
    return Batch([f"thing number {i} " + "word " * (i % 20) for i in rows], views)


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_scores_do_not_depend_on_the_batch(name: str, fields: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    scorer = SCORERS[name](**fields)
    assert isinstance(scorer, Scorer) and dataclasses.is_dataclass(scorer) and type(scorer).__doc__
    score = scorer.load(CPU)
    whole = score(batch(scorer, list(range(50))))
    assert whole.dtype == torch.float32 and whole.shape[0] == 50 and torch.isfinite(whole).all()
    assert torch.equal(whole, score(batch(scorer, list(range(50)))))
    backwards = score(batch(scorer, list(range(49, -1, -1))))
    assert torch.equal(whole, backwards.flip(0))
    for start, stop in ((0, 1), (7, 20), (20, 50)):
        assert torch.equal(whole[start:stop], score(batch(scorer, list(range(start, stop)))))
    assert score(batch(scorer, [])).shape[0] == 0


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_fingerprints(name: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make = SCORERS[name]
    base = fingerprint(make(**fields), INDEX)
    assert fingerprint(make(**{**fields, "weights": "s3://elsewhere/w.safetensors"}), INDEX) == base
    assert fingerprint(make(**{**fields, "sha256": "0" * 64}), INDEX) != base
    assert fingerprint(make(**{**fields, "model": "proxy-ti"}), INDEX) != base
    assert fingerprint(make(**{**fields, "precision": "bf16"}), INDEX) != base
    assert fingerprint(make(**fields), index_fingerprint(DecodeLimits(max_pixels=5))) != base
    others = [fingerprint(SCORERS[other](**fields), INDEX) for other in SCORERS if other != name]
    assert base not in others


def test_one_forward_pass_is_shared(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.models.dual import DualEncoder

    calls = []
    original = DualEncoder.image
    monkeypatch.setattr(DualEncoder, "image", lambda self, pixels: calls.append(1) or original(self, pixels))
    scorers = [SCORERS[name](**fields) for name in ("clip_score", "embedding")]
    loaded = [scorer.load(CPU) for scorer in scorers]
    shared = batch(scorers[0], list(range(4)))
    similarity, vectors = (score(shared) for score in loaded)
    assert len(calls) == 1
    assert similarity.shape == (4,) and vectors.shape[0] == 4
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(4), atol=1e-5)


def test_scores_equal_a_plain_forward_pass(fields: dict[str, Any], tmp_path: Path) -> None:
    """Against open_clip's own module, preprocessed by hand."""
    from curation.models.dual import load_dual_encoder
    from curation.models.tokenizer import tokenizer_for
    from curation.models.weights import Weights

    scorer = SCORERS["clip_score"](**fields)
    sample = batch(scorer, list(range(6)))
    found = scorer.load(CPU)(sample)
    encoder = load_dual_encoder(fields["model"], Weights(fields["weights"], fields["sha256"]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (encoder.preprocess.mean, encoder.preprocess.std))
    images = (torch.from_numpy(sample.pixels(encoder.preprocess)).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        image = torch.nn.functional.normalize(encoder.module.encode_image(images.float()), dim=-1)
        ids = tokenizer_for(fields["model"])(list(sample.captions))
        text = torch.nn.functional.normalize(encoder.module.encode_text(ids), dim=-1)
    assert torch.allclose(found, (image * text).sum(-1), atol=1e-5)
