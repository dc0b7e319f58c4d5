"""Scorer `cluster`: the nearest centre of k-means."""

from __future__ import annotations

import pytest
from scorers_given import CPU, ROWS, Fields, make, seen

from curation.core.errors import RecipeError, WeightsError
from curation.models.vectors import read_centres, read_vectors
from curation.models.weights import Weights


@pytest.mark.slow
@pytest.mark.parametrize("columns", [4, 1 << 16])
def test_cluster(columns: int, given: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest of all centres, also when they are compared in several parts."""
    monkeypatch.setattr("curation.models.vectors.COLUMNS", columns)
    found, image, _ = seen(given, "cluster")
    fields = given["cluster"]
    centres = read_centres(Weights(fields["centres"], fields["centres_sha256"]), fields["sha256"], "image", CPU).numpy()
    target = read_vectors(Weights(fields["target"], fields["target_sha256"]), fields["sha256"], CPU).image.numpy()
    near = {max(range(len(centres)), key=lambda k: float(centres[k] @ vector)) for vector in target}
    for row, value in zip(ROWS, found.to_pylist(), strict=True):
        cosines = [float(image[row] @ centre) for centre in centres]
        assert value["similarity"] == pytest.approx(max(cosines), abs=1e-5)
        assert cosines[value["cluster"]] == pytest.approx(max(cosines), abs=1e-6)
        assert value["near_target"] == (value["cluster"] in near)


def test_cluster_without_a_target_and_of_captions(given: Fields) -> None:
    fields = {key: value for key, value in given["cluster"].items() if not key.startswith("target")}
    assert [field.name for field in make("cluster", fields).values()] == ["cluster", "similarity"]
    with pytest.raises(WeightsError, match="has centres of image vectors, the scorer clusters text"):
        make("cluster", {**fields, "of": "text"}).load(CPU)
    vectors = {"centres": given["norm_sim"]["target"], "centres_sha256": given["norm_sim"]["target_sha256"]}
    with pytest.raises(WeightsError, match="is not a file of centres"):
        make("cluster", {**fields, **vectors}).load(CPU)
    with pytest.raises(RecipeError, match="must be given together"):
        make("cluster", {**fields, "target": "s3://somewhere/else"})
