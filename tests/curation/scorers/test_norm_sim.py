"""Scorer `norm_sim`: the norm of the cosines to a target."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scorers_given import CPU, ROWS, Fields, batch, make, seen, write

from curation.models.vectors import read_vectors, vectors_file
from curation.models.weights import Weights


@pytest.mark.parametrize("p", [2, "inf"])
def test_norm_sim(given: Fields, p: Any) -> None:
    fields = {**given["norm_sim"], "p": p}
    found, image, _ = seen({**given, "norm_sim": fields}, "norm_sim")
    target = read_vectors(Weights(fields["target"], fields["target_sha256"]), fields["sha256"], CPU).image.double()
    for row in ROWS:
        cosines = [abs(float(image[row] @ other)) for other in target.numpy()]
        wanted = max(cosines) if p == "inf" else math.sqrt(sum(c**2 for c in cosines))
        assert float(found[row]) == pytest.approx(wanted, abs=1e-5)


def test_norm_sim_of_what_is_opposite(given: Fields, tmp_path: Path) -> None:
    """The largest |cos| is the norm's limit for large p, also where the cosine is negative."""
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    sample = batch(ROWS[:1], make("clip_score", given["clip_score"]))
    image = passes.image(sample)
    file = write(tmp_path / "target.safetensors", vectors_file(-image, -image, given["clip_score"]["sha256"]))
    fields = {**given["clip_score"], "target": file["weights"], "target_sha256": file["sha256"], "p": "inf"}
    assert float(make("norm_sim", fields).load(CPU)(sample)[0]) == pytest.approx(1, abs=1e-3)
