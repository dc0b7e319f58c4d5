"""Consumers of a snapshot: Python, torch, DuckDB; without Tutelage, plain webdataset and open_clip's training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import pytest
import torch
from builders import write_corpus, write_recipe, write_weights

import curation as cu
from curation.core.errors import NoSnapshotError, UserError
from curation.curating.pipeline import pipeline
from curation.dataset.snapshot import Snapshot
from curation.recipes.curation_recipe import load_recipe
from jobs.commands.run import run_steps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory, inline: None) -> Snapshot:
    root = tmp_path_factory.mktemp("snapshot")
    write_corpus(root / "corpus", 4, 50)
    sha = write_weights(root / "w.safetensors")
    recipe = write_recipe(root / "r.yaml", str(root / "corpus"), str(root / "out"), str(root / "w.safetensors"), sha)
    with pipeline(load_recipe(recipe, ["filters.top_fraction.fraction=0.8"])) as work:
        run_steps(work, None)
    return cu.open(str(root / "out"))


@pytest.fixture(scope="module")
def kept(snapshot: Snapshot) -> list[str]:
    return sorted(sample.uid for sample in snapshot.samples())


def test_open(snapshot: Snapshot) -> None:
    root = str(snapshot.store.url)
    assert cu.open(root).number == cu.open(f"{root}@1").number == cu.open(f"{root}@latest").number == 1
    with pytest.raises(NoSnapshotError):
        cu.open(f"{root}@2")
    assert all(Path(url).exists() for url in snapshot.urls + snapshot.manifest_urls)


def test_the_public_surface() -> None:
    names = "LearnRecipe Recipe RunOptions Sample ShardRef Snapshot Source StoreOptions TutelageError curate diff "
    names += "evaluate learn load_learn_recipe load_recipe open verify what_if"
    assert cu.__all__ == names.split()
    assert all(getattr(cu, name) is not None for name in cu.__all__)
    with pytest.raises(AttributeError):
        cu.nonsense  # noqa: B018


def test_manifest_queries(snapshot: Snapshot, kept: list[str]) -> None:
    table = snapshot.manifest.query("SELECT decision, count(*) AS n FROM manifest GROUP BY 1")
    counts = dict(zip(table.column("decision").to_pylist(), table.column("n").to_pylist(), strict=True))
    assert counts["kept"] == len(kept) == snapshot.document["samples"]["kept"]
    with pytest.raises(UserError, match="manifest query"):
        snapshot.manifest.query("SELECT nonsense FROM manifest")
    # without Tutelage: DuckDB reads the same Parquet
    plain = duckdb.sql(f"SELECT count(*) FROM read_parquet({snapshot.manifest_urls}) WHERE decision = 'kept'")
    assert plain.fetchall() == [(len(kept),)]


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 3), (2, 2), (3, 0), (7, 1)])
@pytest.mark.parametrize("shuffle", [0, 100])
def test_torch_splits_without_loss_or_repetition(
    snapshot: Snapshot, kept: list[str], world: int, workers: int, shuffle: int
) -> None:
    found: list[str] = []
    sizes = []
    for rank in range(world):
        stream = snapshot.torch(size=32, shuffle=shuffle, rank=rank, world=world)
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
        uids = [example.uid for example in loader]
        sizes.append(len(uids))
        found += uids
    assert sorted(found) == kept
    assert max(sizes) - min(sizes) <= max(1, workers)


def test_torch_gives_pixels_and_captions_in_another_order_every_epoch(snapshot: Snapshot, kept: list[str]) -> None:
    stream = snapshot.torch(size=32, shuffle=1000)
    first = [example.uid for example in stream]
    stream.set_epoch(1)
    second = [example.uid for example in stream]
    assert sorted(first) == sorted(second) == kept and first != second
    example = next(iter(stream))
    assert example.pixels.shape == (32, 32, 3) and example.caption


def test_webdataset_through_the_snapshot(snapshot: Snapshot, kept: list[str]) -> None:
    dataset = snapshot.webdataset(shuffle=True).decode("pil").to_tuple("__key__", "jpg;png;jpeg;webp", "txt")
    items = list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2))
    assert sorted(key for key, _, _ in items) == kept
    assert all(image.size[0] > 0 and text for _, image, text in items)


def test_plain_webdataset_reads_the_shards(snapshot: Snapshot, kept: list[str]) -> None:
    code = f"""
import json, sys, webdataset
assert not any(name.startswith(("curation", "jobs")) for name in sys.modules)
dataset = webdataset.WebDataset({snapshot.urls!r}, shardshuffle=False).decode("pil")
print(json.dumps([[s["__key__"], s["json"]["tutelage"]["uid"], bool(s["txt"])] for s in dataset]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert sorted(key for key, _, _ in rows) == kept
    assert all(key == uid and text for key, uid, text in rows)


def test_names_in_the_output_are_unique_and_extensions_survive(snapshot: Snapshot) -> None:
    extensions = Counter(sample.extension for sample in snapshot.samples())
    assert set(extensions) == {"png", "jpg", "webp"}


@pytest.mark.slow
def test_open_clips_own_training_reads_the_shards(snapshot: Snapshot, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "open_clip_train.main", "--train-data", "::".join(snapshot.urls),
        "--train-num-samples", "8", "--dataset-type", "webdataset", "--model", "RN50", "--batch-size", "4",
        "--force-image-size", "32", "--epochs", "1", "--workers", "1", "--device", "cpu", "--precision", "fp32",
        "--logs", str(tmp_path), "--save-frequency", "0", "--warmup", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Train Epoch: 0" in done.stderr + done.stdout
