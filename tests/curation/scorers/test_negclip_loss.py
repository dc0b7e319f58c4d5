"""Scorer `negclip_loss`: its formula in plain loops, and the published code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scorers_given import CPU, ROWS, Fields, batch, make, seen, write

from curation.models.vectors import read_vectors, vectors_file
from curation.models.weights import Weights


def test_negclip_loss(given: Fields) -> None:
    found, image, text = seen(given, "negclip_loss")
    fields = given["negclip_loss"]
    set_ = read_vectors(Weights(fields["against"], fields["against_sha256"]), fields["sha256"], CPU)
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    t = 1 / float(passes.encoder.module.logit_scale.exp())
    for row in ROWS:
        own = image[row] @ text[row]
        images, texts = ([*part.double().numpy(), own_part] for part, own_part in
                         ((set_.image, image[row]), (set_.text, text[row])))  # fmt: skip
        across = math.log(sum(math.exp(image[row] @ other / t) for other in texts))
        down = math.log(sum(math.exp(text[row] @ other / t) for other in images))
        assert float(found[row]) == pytest.approx(own - t / 2 * (across + down), abs=1e-5)


def test_negclip_loss_is_the_published_code_s(given: Fields, tmp_path: Path) -> None:
    """Its value for each pair of one batch equals ours against the other pairs of the batch."""
    clip = make("clip_score", given["clip_score"])
    passes = clip.open(CPU)  # type: ignore[attr-defined]
    sample = batch(ROWS, clip)
    image, text = passes.image(sample), passes.text(sample)
    t = 1 / float(passes.encoder.module.logit_scale.exp())
    cosines = image @ text.T
    norms = [0.5 * t * torch.log(torch.exp(cosines / t).sum(way)) for way in (1, 0)]
    published = cosines.diag() - norms[0] - norms[1]
    for row in (0, 4):
        others = [other for other in ROWS if other != row]
        file = vectors_file(image[others], text[others], given["clip_score"]["sha256"])
        against = write(tmp_path / f"{row}.safetensors", file)
        fields = {"against": against["weights"], "against_sha256": against["sha256"], **given["clip_score"]}
        found = make("negclip_loss", fields).load(CPU)(sample)
        assert float(found[row]) == pytest.approx(float(published[row]), abs=5e-5)  # vectors are kept in half precision
