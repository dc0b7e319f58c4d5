"""One recipe on each engine, with 1, 2 and 8 workers, decoding ahead or not: equal tables, decisions and shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import write_corpus, write_recipe, write_weights

from curation.core.local_executor import LocalExecutor
from curation.curating.run import RunOptions, curate
from curation.dataset.snapshot import Snapshot

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards, two of them broken, and recipes: one with models, one without."""
    root = tmp_path_factory.mktemp("engines")
    write_corpus(root / "pool", 3, 30)
    sha = write_weights(root / "w.safetensors")
    model = {"model": "proxy-mu", "weights": f"{root}/w.safetensors", "sha256": sha}
    shared: dict[str, Any] = {"compute": {"batch_size": 16, "num_cpus": 0.25}, "shards": {"samples": 20}}
    for name, scorers, score in (
        ("models", [{"clip_score": model}, {"embedding": model}], "clip_score"),
        ("numbers", [{"phash": {}}, {"image_stats": {"size": 48}}, {"caption_stats": {}}], "image_stats.entropy"),
    ):
        filters = [{"caption": {"min_words": 2}}, {"exact_duplicates": {}}]
        filters += [{"top_fraction": {"score": score, "fraction": 0.6}}]  # type: ignore[dict-item]
        write_recipe(root / f"{name}.yaml", f"{root}/pool", f"{root}/out", "", "", scorers=scorers, filters=filters,
                     **shared)  # fmt: skip
    return root


def content(snapshot: Snapshot, scores: Path) -> dict[str, Any]:
    """The results of a run, without the random parts of names."""
    records = [json.loads(path.read_text()) for path in (scores / "units").glob("*.json")]
    tables = sorted((record["column"], record["key"], record["data"]["sha256"]) for record in records)
    manifest = snapshot.manifest.to_arrow().drop_columns(["output_shard"])
    return {
        "tables": tables,
        "decisions": manifest.to_pylist(),
        "shards": snapshot.shards.select(["sha256", "bytes", "samples"]).to_pylist(),
        "samples": snapshot.document.samples,
        "decision_id": snapshot.document.decision_id,
    }


def run(home: Path, recipe: str, name: str, executor: Any, workers: int, *more: str) -> dict[str, Any]:
    overrides = [f"output={home}/{recipe}-{name}", f"compute.max_actors={workers}", f"compute.min_actors={workers}"]
    overrides += more
    options = RunOptions(accept_yield=True)
    made = curate(home / f"{recipe}.yaml", overrides=overrides, executor=executor, options=options)
    return content(made, home / f"{recipe}-{name}" / "scores")


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, dict[str, Any]]:
    """The results of one worker on this machine."""
    found = {recipe: run(home, recipe, "one", LocalExecutor(cpus=1), 1) for recipe in ("models", "numbers")}
    for content in found.values():
        assert content["tables"] and content["shards"] and content["samples"]["kept"] > 20
    return found


@pytest.mark.parametrize("recipe", ["models", "numbers"])
@pytest.mark.parametrize("workers", [pytest.param(2, marks=pytest.mark.soak), 8])
def test_any_number_of_local_workers_makes_the_same(
    recipe: str, workers: int, home: Path, expected: dict[str, dict[str, Any]]
) -> None:
    assert run(home, recipe, f"local-{workers}", LocalExecutor(cpus=workers), workers) == expected[recipe]


@pytest.mark.parametrize(("recipe", "tasks", "workers"), [("models", 1, 1), ("models", 3, 2), ("numbers", 2, 1)])
def test_decoding_ahead_makes_the_same(
    recipe: str, tasks: int, workers: int, home: Path, expected: dict[str, dict[str, Any]]
) -> None:
    """Whatever the order in which rows reach the models."""
    tasked = f"compute.decode_tasks={tasks}"
    assert run(home, recipe, f"ahead-{tasks}", LocalExecutor(cpus=8), workers, tasked) == expected[recipe]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    from actors.ray_cluster import ray_cluster

    with ray_cluster():
        yield


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "workers", "tasks"),
    [pytest.param("models", 1, 0, marks=pytest.mark.soak), ("models", 2, 0), ("numbers", 8, 0), ("numbers", 1, 2)],
)
def test_ray_makes_the_same(
    recipe: str, workers: int, tasks: int, home: Path, expected: dict[str, dict[str, Any]], ray_cluster: None
) -> None:
    from actors.ray_executor import RayExecutor

    tasked = f"compute.decode_tasks={tasks}"
    assert run(home, recipe, f"ray-{workers}-{tasks}", RayExecutor(), workers, tasked) == expected[recipe]
