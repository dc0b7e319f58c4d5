"""Label diffusion: against its definition with dense matrices, and in bounded blocks."""

from __future__ import annotations

from math import log
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

from curation.core.distributions import LEAST
from curation.filters import label_diffusion
from curation.filters.label_diffusion import ALPHA, diffused_doubt, doubts


def unit(count: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


def brute(vectors: np.ndarray, own: list[int], labels: int, nearest: int) -> list[float]:
    """The definition in the module's docstring, with an inverse instead of conjugate gradients."""
    count = len(own)
    cosines = vectors @ vectors.T
    graph = np.zeros((count, count))
    for i in range(count):
        near = sorted((j for j in range(count) if j != i), key=lambda j: -cosines[i, j])[:nearest]
        for j in near:
            graph[i, j] = graph[j, i] = max(0.0, cosines[i, j])
    degree = graph.sum(1)
    similar = graph / np.sqrt(np.outer(degree, degree))
    one_hot = np.eye(labels)[own]
    reached = np.linalg.inv(np.eye(count) - ALPHA * similar) @ one_hot - one_hot
    found = reached / reached.sum(1, keepdims=True)
    return [-log(max(found[i, k], LEAST), labels) for i, k in enumerate(own)]


@pytest.mark.parametrize("labels", [2, 5])
def test_equals_the_definition(labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_diffusion, "STEPS", 200)
    monkeypatch.setattr(label_diffusion, "SHARE", 20)
    vectors, own = unit(120, labels), np.random.default_rng(labels).integers(0, labels, 120)
    wanted = brute(vectors.double().numpy(), own.tolist(), labels, 6)
    assert diffused_doubt(vectors, own, labels) == pytest.approx(wanted, abs=1e-4)


def test_edges_of_the_definition() -> None:
    assert diffused_doubt(unit(1, 0), np.array([0]), 3).tolist() == pytest.approx([1.0]), "no neighbour: uniform"
    assert diffused_doubt(unit(3, 0), np.array([0, 0, -1]), 1).tolist() == [0, 0, 1]
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert diffused_doubt(opposite, np.array([0, 1]), 2) == pytest.approx([1.0, 1.0]), "negative cosines count as 0"


@pytest.mark.slow
def test_more_than_a_block_is_divided_into_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(label_diffusion, "BLOCK", 50)
    monkeypatch.setattr(label_diffusion, "SHARE", 10)
    random = np.random.default_rng(0)
    groups = random.integers(0, 3, 300)
    vectors = np.eye(8)[groups] + 0.1 * random.normal(size=(300, 8))
    wrong = {5, 17, 250}
    rows = [
        (i, f"{i:032x}", vectors[i].astype(np.float16).tobytes(), "abc"[(groups[i] + (i in wrong)) % 3])
        for i in range(300)
    ]
    db = duckdb.connect(str(tmp_path / "d"))
    db.execute("CREATE TABLE alive (id BIGINT, uid VARCHAR, embedding BLOB, label VARCHAR)")
    db.executemany("INSERT INTO alive VALUES (?, ?, ?, ?)", rows)
    found: dict[int, float] = {}
    for ids, doubt in doubts(db, "embedding", "label", 0, "t"):
        assert len(ids) <= 50
        found |= dict(zip(ids.tolist(), doubt.tolist(), strict=True))
    assert sorted(found) == list(range(300))
    assert set(sorted(found, key=lambda i: -found[i])[:3]) == wrong
    assert db.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(1,)], "temporary tables are dropped"
