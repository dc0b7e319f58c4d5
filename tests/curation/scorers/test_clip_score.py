"""Scorer `clip_score`: what a plain forward pass gives."""

from __future__ import annotations

import torch
from scorers_given import CPU, Fields, batch, make


def test_scores_equal_a_plain_forward_pass(given: Fields) -> None:
    """Against open_clip's own module, preprocessed by hand."""
    from curation.models.dual import load_dual_encoder
    from curation.models.tokenizer import tokenizer_for
    from curation.models.weights import Weights

    fields = given["clip_score"]
    scorer = make("clip_score", fields)
    sample = batch(list(range(6)), scorer)
    found = scorer.load(CPU)(sample)
    encoder = load_dual_encoder(fields["model"], Weights(fields["weights"], fields["sha256"]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (encoder.preprocess.mean, encoder.preprocess.std))
    images = (torch.from_numpy(sample.pixels(encoder.preprocess)).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        image = torch.nn.functional.normalize(encoder.module.encode_image(images.float()), dim=-1)
        ids = tokenizer_for(fields["model"])(list(sample.captions))
        text = torch.nn.functional.normalize(encoder.module.encode_text(ids), dim=-1)
    assert torch.allclose(found, (image * text).sum(-1), atol=1e-5)
